"""The program in front of Django: what it hands in, what it hands on, and whom it lets wait."""

import asyncio
import os
import signal
import time
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.embedded.commands import web
from orchestrator.embedded.ports import free_port
from orchestrator.web import WsgiSite
from tests.e2e.programs import api, serving, spawn
from tests.run_rows import make_run, published
from tests.world import World

Message = dict[str, Any]


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


class Chunks:
    """A WSGI answer that knows whether it was closed."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self.is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._chunks)

    def close(self) -> None:
        self.is_closed = True


def answered(
    program: Any, *, body: Iterable[bytes] = (b"",), headers: Iterable[tuple[bytes, bytes]] = ()
) -> list[Message]:
    """What the site sends for one request; a body ends with a sender who has gone."""
    sent: list[Message] = []
    parts = list(body)
    scope = {
        "method": "POST",
        "path": "/grüße",
        "query_string": b"a=1",
        "http_version": "1.1",
        "client": ("10.0.0.7", 1234),
        "headers": list(headers),
    }

    async def receive() -> Message:
        if not parts:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(WsgiSite(program, threads=2)(scope, receive, send))
    return sent


def test_process_that_is_told_to_end_ends_its_streams_first(acme: World, tmp_path: Path) -> None:
    run = make_run(acme, published(acme), "pending", status="running")
    port = free_port()
    site = spawn(web("--port", str(port)), log=tmp_path / "web.log", environment=os.environ)
    address = f"http://127.0.0.1:{port}"
    headers = {"Accept": "text/event-stream"}

    with (
        serving(site, lambda: answers(f"{address}/health")),
        api(address, acme.key(), **headers) as client,
        client.stream("GET", f"runs/{run.pk}/events") as stream,
    ):
        lines = stream.iter_lines()
        assert next(lines) == "retry: 2000"
        began = time.monotonic()
        assert site.stop() in (0, -signal.SIGTERM)
        assert not [line for line in lines if "still here" in line]

    assert time.monotonic() - began < 4.5
    assert "Traceback" not in site.said


def test_short_answer_is_one_start_and_one_body() -> None:
    chunks = Chunks([b"Hel", b"lo"])

    def program(environ: dict[str, Any], start: Any) -> Chunks:
        start("201 Created", [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
        return chunks

    start, body = answered(program)

    assert (start["status"], body["body"], body["more_body"]) == (201, b"Hello", False)
    assert start["headers"] == [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
    assert chunks.is_closed


def test_program_sees_the_request() -> None:
    seen: dict[str, Any] = {}

    def program(environ: dict[str, Any], start: Any) -> Chunks:
        seen.update(environ, read=environ["wsgi.input"].read())
        start("204 No Content", [])
        return Chunks([])

    start, body = answered(program, body=(b"ab", b"cd"), headers=[(b"x-a", b"1"), (b"x-a", b"2")])

    assert (start["status"], body["body"], body["more_body"]) == (204, b"", False)
    assert seen["read"] == b"abcd"
    assert seen["PATH_INFO"].encode("latin-1").decode() == "/grüße"
    assert (seen["QUERY_STRING"], seen["REMOTE_ADDR"], seen["HTTP_X_A"]) == (
        "a=1",
        "10.0.0.7",
        "1,2",
    )


def test_long_answer_goes_out_in_portions() -> None:
    def program(environ: dict[str, Any], start: Any) -> Chunks:
        start("200 OK", [])
        return Chunks(b"x" * 4096 for _ in range(200))

    _, *bodies = answered(program)

    assert sum(len(each["body"]) for each in bodies) == 200 * 4096
    assert max(len(each["body"]) for each in bodies) <= 300_000
    assert [each["more_body"] for each in bodies] == [True] * (len(bodies) - 1) + [False]


def test_sender_who_goes_while_sending_is_not_answered() -> None:
    def program(environ: dict[str, Any], start: Any) -> Chunks:
        raise AssertionError("half a request")

    assert answered(program, body=()) == []


def test_body_beyond_what_django_takes_is_not_gathered(settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10
    seen: list[bytes] = []

    def program(environ: dict[str, Any], start: Any) -> Chunks:
        seen.append(environ["wsgi.input"].read())
        start("413 Too Large", [])
        return Chunks([])

    answered(program, body=[b"12345678"] * 100)

    assert len(seen[0]) == 16


def test_answer_is_closed_when_it_breaks() -> None:
    def broken() -> Iterator[bytes]:
        yield b"x" * 300_000
        raise OSError("gone")

    chunks = Chunks(broken())

    def program(environ: dict[str, Any], start: Any) -> Chunks:
        start("200 OK", [])
        return chunks

    with pytest.raises(OSError, match="gone"):
        answered(program)

    assert chunks.is_closed
