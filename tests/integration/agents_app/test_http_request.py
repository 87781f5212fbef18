"""Requests go to hosts that a tenant has named, with secrets that nobody gets to see."""

import html
import json
import re
import traceback
from typing import Any
from urllib.parse import quote, unquote

import pytest

from agents_app.core.errors import ToolFailedError
from agents_app.tools.web_address import WebRefusedError
from agents_app.tools.web_client import WebRequest, fetch
from tests.integration.agents_app.web_servers import (
    allow,
    answering,
    keep_secret,
    port_of,
    sent,
    use,
)
from tests.model_servers import RawServer, Talk, raw_server
from tests.rest import call, problems
from tests.world import World

SECRET = "crm-0123456789-abcdef"
JSON = ("Content-Type: application/json",)


@pytest.fixture
def opened(settings: Any) -> Any:
    def opened(server: RawServer) -> str:
        settings.MUSTER_TOOL_PRIVATE_HOSTS = frozenset({("127.0.0.1", port_of(server))})
        return f"127.0.0.1:{port_of(server)}"

    return opened


def echoing() -> Talk:
    def echo(server: RawServer, connection: Any, request: bytes) -> None:
        told = json.dumps({"you said": request.decode()}).encode()
        connection.sendall(sent(told, headers=JSON))

    return echo


def refusal(world: World, **arguments: Any) -> str:
    with pytest.raises(ToolFailedError) as caught:
        use(world, "http_request", **arguments)
    return caught.value.detail


def test_named_host_is_asked_and_answers(acme: World, opened: Any) -> None:
    with raw_server(answering(sent(b'{"a": [1]}', headers=JSON))) as server:
        allow(acme, "http_request", hosts=[opened(server)], methods=["POST"])
        found = use(acme, "http_request", url=server.url + "/x?y=1", method="POST", body={"b": 2})

    assert found == {
        "status": 200,
        "content_type": "application/json",
        "truncated": False,
        "body": {"a": [1]},
    }
    (request,) = server.requests
    assert request.startswith(b"POST /x?y=1 HTTP/1.1\r\n")
    assert request.endswith(b'\r\n\r\n{"b":2}') or request.endswith(b'\r\n\r\n{"b": 2}')


def test_host_that_was_not_named_is_not_asked(acme: World, opened: Any) -> None:
    with raw_server(echoing()) as server:
        opened(server)
        allow(acme, "http_request", hosts=["api.example.com"])

        told = refusal(acme, url=server.url)
        assert server.requests == []

    assert "allowed: api.example.com" in told


@pytest.mark.parametrize(
    "url",
    [
        *("https://api.example.com.evil.example/", "https://api.example.com@evil.example/"),
        *("https://evil.example/api.example.com", "http://api.example.com/"),
        *("https://api.example.com:8443/", "https://api.example.com\\.evil.example/"),
        *("https://evil.example#api.example.com", "file://api.example.com/etc/passwd"),
    ],
)
def test_address_that_looks_like_a_named_host_is_refused(acme: World, url: str) -> None:
    allow(acme, "http_request", hosts=["api.example.com"])

    refusal(acme, url=url)


def test_naming_a_private_host_does_not_open_it(acme: World) -> None:
    with raw_server(echoing()) as server:
        allow(acme, "http_request", hosts=[f"127.0.0.1:{port_of(server)}"])

        assert "private network" in refusal(acme, url=server.url)
        assert server.requests == []


def test_method_that_was_not_named_is_refused(acme: World, opened: Any) -> None:
    with raw_server(echoing()) as server:
        allow(acme, "http_request", hosts=[opened(server)])

        told = refusal(acme, url=server.url, method="DELETE")
        assert server.requests == []

    assert "DELETE is not allowed" in told


def test_redirect_is_told_and_not_followed(acme: World, opened: Any) -> None:
    moved = sent(b"", status="302 Found", headers=("Location: https://elsewhere.example/",))
    with raw_server(answering(moved)) as server:
        allow(acme, "http_request", hosts=[opened(server)])
        found = use(acme, "http_request", url=server.url)

    assert (found["status"], found["location"]) == (302, "https://elsewhere.example/")


def secretive(world: World, host: str, *, secret: str = SECRET, prefix: str = "Bearer ") -> None:
    keep_secret(world, "crm", secret)
    header = {"host": host, "prefix": prefix, "credential": "crm"}
    allow(world, "http_request", hosts=[host], secret_headers=[header])


def test_secret_is_sent_and_told_to_nobody(
    acme: World, opened: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    with raw_server(echoing()) as server:
        secretive(acme, opened(server))
        found = use(acme, "http_request", url=server.url)

    assert f"Authorization: Bearer {SECRET}".encode() in server.requests[0]
    assert SECRET not in json.dumps(found)
    assert "(secret)" in json.dumps(found)
    assert SECRET not in "".join(capfd.readouterr())


ODD_SECRET = 'crm+/01234567&89"abcdef'
ESCAPED = "".join(f"\\u{ord(each):04X}" for each in ODD_SECRET)


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        (json.dumps({"you said": ODD_SECRET}), "application/json"),
        (json.dumps({ODD_SECRET: 1}), "application/json"),
        (f'{{"you said": "{ESCAPED}"}}', "application/json"),
        (json.dumps({"inner": json.dumps([ODD_SECRET])}), "application/json"),
        (json.dumps([ODD_SECRET]).replace("/", "\\/").replace("+", "\\u002b"), "text/plain"),
        (f'["{ESCAPED}", and then it breaks', "application/json"),
        (html.escape(ODD_SECRET), "text/html"),
        (f"https://a.example/?key={quote(ODD_SECRET, safe='')}", "text/plain"),
    ],
)
def test_secret_is_blotted_out_however_it_is_written(
    acme: World, opened: Any, told: str, kind: str
) -> None:
    raw = sent(told.encode(), headers=(f"Content-Type: {kind}",))
    with raw_server(answering(raw)) as server:
        secretive(acme, opened(server), secret=ODD_SECRET)
        found = json.dumps(use(acme, "http_request", url=server.url))

    assert "(secret)" in found
    plain = unquote(html.unescape(re.sub(r"\\+u002b", "+", found, flags=re.IGNORECASE)))
    assert "01234567" not in plain
    assert ESCAPED[-20:] not in found


def test_secret_that_comes_back_as_a_number_is_blotted_out(acme: World, opened: Any) -> None:
    raw = sent(b'{"you": [1234567890]}', headers=JSON)
    with raw_server(answering(raw)) as server:
        secretive(acme, opened(server), secret="1234567890")
        found = use(acme, "http_request", url=server.url)

    assert found["body"] == '{"you": [(secret)]}'


def test_secret_is_blotted_out_without_its_prefix_and_of_headers(acme: World, opened: Any) -> None:
    headers = (f"Content-Type: text/{SECRET}", f"Location: /?token={SECRET}")
    with raw_server(answering(sent(SECRET.encode(), headers=headers))) as server:
        secretive(acme, opened(server), prefix="token=")
        found = use(acme, "http_request", url=server.url)

    assert found["body"] == "(secret)"
    assert SECRET not in json.dumps(found)


def test_header_that_cannot_be_sent_is_not_told(opened: Any) -> None:
    with raw_server(echoing()) as server:
        opened(server)
        asked = WebRequest(url=server.url, headers={"Authorization": f" Bearer {SECRET}"})
        with pytest.raises(WebRefusedError, match="breaks HTTP") as caught:
            fetch(asked)

    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_secret_goes_to_its_own_host_alone(acme: World, settings: Any) -> None:
    with raw_server(echoing()) as server, raw_server(echoing()) as other:
        ports = {("127.0.0.1", port_of(each)) for each in (server, other)}
        settings.MUSTER_TOOL_PRIVATE_HOSTS = frozenset(ports)
        first, second = (f"127.0.0.1:{port_of(each)}" for each in (server, other))
        keep_secret(acme, "crm", SECRET)
        header = {"host": first, "credential": "crm"}
        allow(acme, "http_request", hosts=[first, second], secret_headers=[header])
        use(acme, "http_request", url=other.url)

    assert SECRET.encode() not in other.requests[0]


@pytest.mark.parametrize(
    "headers",
    [
        *({name: "x"} for name in ("Authorization", "cookie", "Host", "Proxy-Authorization")),
        *({name: "x"} for name in ("Content-Length", "X-Forwarded-For", "Transfer-Encoding")),
        *({"X": value} for value in ("a\r\nb: c", "\x00", "\u00e9")),
        *({name: "x"} for name in ("", "a b", "a:b", "x\r\ny", "x" * 200)),
    ],
)
def test_headers_that_are_not_for_a_model_are_refused(
    acme: World, opened: Any, headers: dict[str, str]
) -> None:
    with raw_server(echoing()) as server:
        secretive(acme, opened(server))

        told = refusal(acme, url=server.url, headers=headers)
        assert server.requests == []

    assert "header" in told


def test_body_that_is_too_large_is_not_sent(acme: World, opened: Any) -> None:
    with raw_server(echoing()) as server:
        allow(acme, "http_request", hosts=[opened(server)])

        assert "more than 262,144 bytes" in refusal(acme, url=server.url, body="x" * 300_000)
        assert server.requests == []


def test_keys_of_model_providers_are_not_for_tools(acme: World, opened: Any) -> None:
    client = acme.client()
    key = {"name": "crm", "provider": "openai", "secret": "sk-acme-0123456789"}
    assert call(client, "POST", "credentials", key).status_code == 201
    with raw_server(echoing()) as server:
        host = opened(server)
        header = {"host": host, "credential": "crm"}
        allow(acme, "http_request", hosts=[host], secret_headers=[header])

        assert "no enabled credential for tools" in refusal(acme, url=server.url)
        assert server.requests == []


@pytest.mark.parametrize(
    "settings_",
    [
        *({"hosts": [host]} for host in ("https://a.example", "a b", "*", "a:99999", "a/b", "")),
        {"methods": ["TRACE"]},
        {"methods": []},
        {"secret_headers": [{"host": "a", "header": "x y", "credential": "c"}]},
        *(
            {"secret_headers": [{"host": "a", "prefix": prefix, "credential": "c"}]}
            for prefix in ("\r\n", " Bearer ", "\u00e9")
        ),
        {"password": "x"},
    ],
)
def test_settings_that_make_no_sense_are_refused(acme: World, settings_: dict[str, Any]) -> None:
    answer = call(acme.client(), "PATCH", "tools/http_request", {"settings": settings_})

    assert answer.status_code == 400
    assert problems(answer)
