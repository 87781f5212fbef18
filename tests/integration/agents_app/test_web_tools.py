"""Tools that read the web reach what is public, within bounds, whatever they are asked for."""

import gzip
import itertools
import time
import zlib
from collections.abc import Iterable
from typing import Any

import httpcore2
import pytest

from agents_app.core.cancellation import Cancellation, cancelled_by
from agents_app.core.errors import ToolFailedError
from agents_app.core.tools import Tool
from agents_app.providers import transport
from agents_app.tools import web_client
from agents_app.tools.web_fetch import web_fetch
from agents_app.tools.web_page import web_page
from tests.model_servers import RawServer, Talk, http, raw_server

ARTICLE = b"""<html><head><title>On  tea</title><script>steal()</script></head><body>
<nav><a href="/home">Home</a><a href="/shop">Shop</a></nav>
<article><h1>On tea</h1>
<p>Tea is made of leaves, and there are more kinds of it than anybody has drunk in one life.</p>
<p>It is best when the water is hot, but not for too long, as every grandmother is able to tell.</p>
<p>See <a href="https://example.org/kinds?x=1#top">all kinds</a> of it, which fill many books.</p>
</article><footer>Imprint and cookies</footer></body></html>"""
HTML = ("Content-Type: text/html; charset=utf-8",)


def sent(body: bytes, *, status: str = "200 OK", headers: Iterable[str] = ()) -> bytes:
    """An answer with these headers, and no type of its own."""
    return http(body, status=status, headers=headers).replace(
        b"Content-Type: application/json\r\n", b"", 1
    )


def answering(raw: bytes) -> Talk:
    def answer(server: RawServer, connection: Any, request: bytes) -> None:
        connection.sendall(raw)

    return answer


@pytest.fixture
def opened(settings: Any) -> Any:
    """Lets tools reach a server of the test, as an operator does for an intranet."""

    def opened(server: Any, *, host: str = "127.0.0.1") -> str:
        port = int(server.url.rpartition(":")[2])
        settings.MUSTER_TOOL_PRIVATE_HOSTS = frozenset({(host, port)})
        return server.url

    return opened


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that anybody tries to connect to; none is reached."""
    found: list[str] = []

    def connect_tcp(self: Any, host: str, *args: Any, **kwargs: Any) -> Any:
        found.append(host)
        raise httpcore2.ConnectError("nobody is there")

    monkeypatch.setattr(httpcore2.SyncBackend, "connect_tcp", connect_tcp)
    return found


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """A resolver with one answer after the other; gives what it is asked."""
    asked: list[str] = []
    left = iter(answers)

    def addresses_of(host: str, port: int) -> list[str]:
        asked.append(host)
        return next(left)

    monkeypatch.setattr(transport, "addresses_of", addresses_of)
    return asked


def refusal(url: str) -> str:
    with pytest.raises(ToolFailedError) as caught:
        web_fetch.call({"url": url})
    return caught.value.detail


def test_page_becomes_readable_text(opened: Any) -> None:
    with raw_server(answering(sent(ARTICLE, headers=HTML))) as server:
        page = web_fetch.call({"url": opened(server) + "/tea"})

    assert isinstance(page, dict)
    assert (page["status"], page["title"], page["truncated"]) == (200, "On tea", False)
    assert "Tea is made of leaves" in page["text"]
    assert "steal" not in page["text"]
    assert "Imprint" not in page["text"]


def test_whole_page_comes_with_its_links(opened: Any) -> None:
    with raw_server(answering(sent(ARTICLE, headers=HTML))) as server:
        url = opened(server)
        page = web_page.call({"url": url, "max_links": 3})

    assert isinstance(page, dict)
    assert "Imprint and cookies" in page["text"]
    assert "steal" not in page["text"]
    assert page["links"] == [
        {"text": "Home", "url": f"{url}/home"},
        {"text": "Shop", "url": f"{url}/shop"},
        {"text": "all kinds", "url": "https://example.org/kinds?x=1"},
    ]


RUSSIAN = """<html><head>{}<title>Чай и вода</title></head><body><article><h1>Чай и вода</h1>
<p>Чай делают из листьев, и таких сортов больше, чем кто-либо выпил за всю свою долгую жизнь.</p>
<p>Лучше всего он тогда, когда вода горяча, но не слишком долго, как скажет вам каждая бабушка.</p>
</article></body></html>"""


@pytest.mark.parametrize("each", [web_fetch, web_page], ids=lambda each: each.name)
@pytest.mark.parametrize(
    ("declared", "named", "encoding"),
    [
        ('<meta charset="windows-1251">', "", "windows-1251"),
        ("<META http-equiv=x content='text/html; Charset=koi8-r'>", "", "koi8-r"),
        ('<meta charset="utf-8">', "; charset=windows-1251", "windows-1251"),
        ('<meta charset="utf-16">', "", "utf-8"),
        ('<meta charset="idna">', "; Charset=undefined", "utf-8"),
        ("", "", "windows-1251"),
        ("", "", "utf-16"),
        ("", "", "utf-8-sig"),
    ],
)
def test_page_is_read_in_its_encoding(
    opened: Any, each: Tool, declared: str, named: str, encoding: str
) -> None:
    body, kind = RUSSIAN.format(declared).encode(encoding), f"Content-Type: text/html{named}"
    with raw_server(answering(sent(body, headers=(kind,)))) as server:
        page = each.call({"url": opened(server)})

    assert isinstance(page, dict)
    assert page["title"] == "Чай и вода"
    assert "Чай делают из листьев" in page["text"]


def test_encoding_that_takes_for_ever_is_not_used(opened: Any) -> None:
    kind = "Content-Type: text/plain; charset=punycode"
    with raw_server(answering(sent(b"a" * 1_000_000, headers=(kind,)))) as server:
        began = time.monotonic()
        web_fetch.call({"url": opened(server)})

    assert time.monotonic() - began < 5


def test_text_is_cut_at_what_was_asked_for(opened: Any) -> None:
    plain = sent(b"x" * 5_000, headers=("Content-Type: text/plain",))
    with raw_server(answering(plain)) as server:
        page = web_fetch.call({"url": opened(server), "max_characters": 100})

    assert isinstance(page, dict)
    assert (page["text"], page["truncated"]) == ("x" * 100, True)


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress], ids=["gzip", "deflate"])
def test_packed_page_is_unpacked(opened: Any, pack: Any) -> None:
    kind = {gzip.compress: "gzip", zlib.compress: "deflate"}[pack]
    packed = sent(pack(ARTICLE), headers=(*HTML, f"Content-Encoding: {kind}"))
    with raw_server(answering(packed)) as server:
        page = web_fetch.call({"url": opened(server)})

    assert isinstance(page, dict)
    assert page["title"] == "On tea"


REFUSED = [
    *(
        "http://127.0.0.1/",
        "http://127.8.9.10/",
        "http://0.0.0.0/",
        "http://[::]/",
        "http://[::1]/",
    ),
    *("http://10.0.0.1/", "http://172.16.0.1/", "http://192.168.1.1/", "http://100.64.0.1/"),
    *(
        "http://169.254.169.254/latest/meta-data/",
        "http://100.100.100.200/",
        "http://[fd00:ec2::254]/",
    ),
    *("http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/", "http://[::127.0.0.1]/"),
    *("http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/", "http://[2001:0:7f00:1::]/"),
    *("http://[fe80::1]/", "http://[fe80::1%25eth0]/", "http://[2606:4700::1111%25eth0]/"),
    *("http://224.0.0.1/", "http://255.255.255.255/", "http://192.0.2.1/"),
    *("http://2130706433/", "http://0x7f000001/", "http://0x7f.1/", "http://017700000001/"),
    *("http://127.1/", "http://0177.0.0.1/", "http://127.0.0.1./", "http://1.1.1.1.1/"),
    *("http://localhost/", "http://LOCALHOST/", "http://localhost./", "http://a.localhost/"),
    *("http://metadata.google.internal/", "http://printer.local/"),
    *("http://user:pw@example.com/", "http://user@example.com/", "http://127.0.0.1@example.com/"),
    *("http://example.com:22/", "http://example.com:6379/", "https://example.com:0/"),
    *("file:///etc/passwd", "gopher://example.com/", "ftp://example.com/", "javascript:alert(1)"),
    *("dict://127.0.0.1:6379/", "//example.com/", "example.com", "", "http://", "http:///x"),
    *("http://exa mple.com/", "http://example.com\\@127.0.0.1/", "http://example.com/\r\nX: y"),
    *(
        "http://\uff11\uff12\uff17.0.0.1/",
        "http://\u2460\u2461\u2466.0.0.1/",
        "http://exa%6dple.com/",
        "http://-a.com/",
    ),
    *("http://a..com/", "http://" + "a" * 300 + ".com/", "http://example.com/" + "a" * 3000),
]


@pytest.mark.parametrize("url", REFUSED, ids=lambda url: url[:40] or "empty")
def test_address_that_is_not_of_the_public_web_is_not_dialled(dialled: list[str], url: str) -> None:
    refusal(url)

    assert dialled == []


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.0.0.1", "169.254.169.254", "0.0.0.0", "::1", "fe80::1%eth0"),
        *("::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "2001:0:a00:1::", "fd00::1"),
    ],
)
def test_name_that_leads_to_a_private_address_is_not_dialled(
    dialled: list[str], monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    resolving(monkeypatch, [address])

    told = refusal("http://rebind.example.com/")

    assert "private network" in told
    assert address not in told
    assert dialled == []


def test_public_address_among_private_ones_is_the_only_one_dialled(
    dialled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, ["10.0.0.1", "93.184.216.34", "127.0.0.1"])

    refusal("http://mixed.example.com/")

    assert dialled == ["93.184.216.34"]


def test_name_that_changes_its_mind_gains_nothing(
    dialled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is resolved once for a connection, and the address that was looked at is dialled."""
    asked = resolving(monkeypatch, ["93.184.216.34"], ["127.0.0.1"])

    refusal("http://rebind.example.com/")
    told = refusal("http://rebind.example.com/")

    assert asked == ["rebind.example.com"] * 2
    assert dialled == ["93.184.216.34"]
    assert "private network" in told


def test_name_is_dialled_without_the_dot_behind_it_and_in_ascii(
    dialled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = resolving(monkeypatch, ["93.184.216.34"], ["93.184.216.34"])

    refusal("http://Example.COM./")
    refusal("http://bücher.example/")

    assert asked == ["example.com", "xn--bcher-kva.example"]


LOCATIONS = [
    *("http://127.0.0.1:1/", "http://localhost/", "//169.254.169.254/latest/", "http://[::1]/"),
    *("file:///etc/passwd", "gopher://127.0.0.1:6379/_X", "http://u:p@example.com/"),
    *("http://2130706433/", "http://example.com:22/", "http://\x7f/", "https://[/"),
]


@pytest.mark.parametrize("location", LOCATIONS)
def test_redirect_is_looked_at_like_the_first_address(opened: Any, location: str) -> None:
    moved = sent(b"", status="302 Found", headers=(f"Location: {location}",))
    with raw_server(answering(moved)) as server:
        told = refusal(opened(server))
        assert len(server.requests) == 1

    assert told


def test_redirects_within_bounds_are_followed(opened: Any) -> None:
    asked: list[bytes] = []

    def serve(server: Any, connection: Any, request: bytes) -> None:
        asked.append(request.split(b" ")[1])
        moved = sent(b"", status="301 Moved", headers=(f"Location: /{len(asked)}",))
        connection.sendall(moved if len(asked) <= 5 else sent(ARTICLE, headers=HTML))

    with raw_server(serve) as server:
        url = opened(server)
        page = web_fetch.call({"url": url})

    assert isinstance(page, dict)
    assert page["url"] == f"{url}/5"
    assert asked == [b"/", b"/1", b"/2", b"/3", b"/4", b"/5"]


def test_endless_redirects_end(opened: Any) -> None:
    moved = sent(b"", status="302 Found", headers=("Location: /again",))
    with raw_server(answering(moved)) as server:
        told = refusal(opened(server))

    assert "redirected more than 5 times" in told


def test_endless_answer_is_cut(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def flood(server: Any, connection: Any, request: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"
        server.drip(connection, itertools.chain([head], itertools.repeat(b"x" * 65_536)), every=0)

    with raw_server(flood) as server:
        told = refusal(opened(server))

    assert "more than 5,242,880 bytes" in told


@pytest.mark.parametrize("kind", ["gzip", "deflate"])
def test_bomb_is_not_unpacked(opened: Any, kind: str) -> None:
    zeros = bytes(200 * 1024 * 1024)
    bomb = gzip.compress(zeros, 1) if kind == "gzip" else zlib.compress(zeros, 1)
    packed = sent(bomb, headers=("Content-Type: text/plain", f"Content-Encoding: {kind}"))
    with raw_server(answering(packed)) as server:
        told = refusal(opened(server))

    assert "more than 5,242,880 bytes" in told


@pytest.mark.parametrize("kind", ["br", "gzip, gzip", "zstd"])
def test_what_is_packed_otherwise_is_refused(opened: Any, kind: str) -> None:
    packed = sent(b"xxx", headers=("Content-Type: text/plain", f"Content-Encoding: {kind}"))
    with raw_server(answering(packed)) as server:
        assert "was not asked for" in refusal(opened(server))


def test_what_is_not_packed_as_it_says_is_refused(opened: Any) -> None:
    packed = sent(b"not gzip", headers=("Content-Type: text/plain", "Content-Encoding: gzip"))
    with raw_server(answering(packed)) as server:
        assert "cannot be read" in refusal(opened(server))


def test_server_that_drips_is_given_up(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        web_client.fetch, "__kwdefaults__", {**web_client.fetch.__kwdefaults__, "seconds": 0.5}
    )

    def drip(server: Any, connection: Any, request: bytes) -> None:
        server.drip(connection, itertools.repeat(b"H"), every=0.05)

    started = time.monotonic()
    with raw_server(drip) as server:
        told = refusal(opened(server))

    assert "did not answer in time" in told
    assert time.monotonic() - started < 3


def test_fetch_ends_soon_after_nobody_waits_for_it(opened: Any) -> None:
    cancellation = Cancellation()

    def silent(server: Any, connection: Any, request: bytes) -> None:
        cancellation.set()
        server.drip(connection, itertools.repeat(b""), every=0.05)

    started = time.monotonic()
    with raw_server(silent) as server, cancelled_by(cancellation):
        refusal(opened(server))

    assert time.monotonic() - started < 5


def test_huge_headers_are_refused(opened: Any) -> None:
    def huge(server: Any, connection: Any, request: bytes) -> None:
        line = b"X-Much: " + b"y" * 1_000 + b"\r\n"
        head = itertools.chain([b"HTTP/1.1 200 OK\r\n"], itertools.repeat(line))
        server.drip(connection, head, every=0)

    with raw_server(huge) as server:
        assert "could not be read" in refusal(opened(server))


@pytest.mark.parametrize("kind", ["application/pdf", "image/png", "application/octet-stream"])
def test_what_is_no_text_is_refused(opened: Any, kind: str) -> None:
    with raw_server(answering(sent(b"%PDF", headers=(f"Content-Type: {kind}",)))) as server:
        assert "which is not text" in refusal(opened(server))


@pytest.mark.parametrize(
    "page",
    [
        b"",
        b"\x00\xff\xfe",
        b"<" * 100_000,
        b"<div>" * 50_000,
        b"<html><title>" + b"t" * 100_000,
        b'<a href="http://[">x</a>',
        b'<?xml version="1.0" encoding="utf-16"?><p>x</p>',
        b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><p>&b;</p>',
    ],
    ids=lambda page: page[:12].decode(errors="replace"),
)
def test_page_that_is_no_page_harms_nobody(opened: Any, page: bytes) -> None:
    with raw_server(answering(sent(page, headers=HTML))) as server:
        url = opened(server)
        for each in (web_fetch, web_page):
            try:
                found = each.call({"url": url})
            except ToolFailedError:
                continue
            assert isinstance(found, dict)
            assert len(found["title"]) <= 300


def test_no_cookie_is_kept(opened: Any) -> None:
    page = sent(ARTICLE, headers=(*HTML, "Set-Cookie: who=acme; Path=/"))
    with raw_server(answering(page)) as server:
        url = opened(server)
        web_fetch.call({"url": url})
        web_fetch.call({"url": url})
        assert not any(b"cookie" in request.lower() for request in server.requests)


def test_proxies_and_passwords_of_the_environment_are_not_used(
    opened: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login u password p")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with raw_server(answering(sent(ARTICLE, headers=HTML))) as server:
        web_fetch.call({"url": opened(server)})
        assert b"uthorization" not in server.requests[0]


def test_only_the_very_host_that_was_opened_is_reached(opened: Any) -> None:
    with raw_server(answering(sent(ARTICLE, headers=HTML))) as server:
        url = opened(server, host="intranet.example")

        refusal(url)
        assert server.requests == []


def test_opened_name_may_lead_to_a_private_address(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, ["127.0.0.1"])
    with raw_server(answering(sent(ARTICLE, headers=HTML))) as server:
        url = opened(server, host="intranet.example")
        page = web_fetch.call({"url": url.replace("127.0.0.1", "intranet.example")})

    assert isinstance(page, dict)
    assert page["title"] == "On tea"
