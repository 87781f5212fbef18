"""Servers that answer as model providers do, as plain context managers."""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from llmock.routers import batch as llmock_batches
from llmock.testing import LLMockServer

from orchestrator.embedded.model import MODEL_NAME, answers
from orchestrator.embedded.ports import LOOPBACK, free_port

__all__ = ["MODEL_NAME", "RawServer", "http", "llmock", "raw_server", "smollm2"]

ROOT = Path(__file__).resolve().parent.parent
_START_SECONDS = 60.0


@contextmanager
def smollm2() -> Iterator[str]:
    """The real small model behind llama.cpp's server; gives its root address, without /v1."""
    port = free_port()
    with subprocess.Popen(
        [sys.executable, "-m", "orchestrator.embedded.model_server", "--port", str(port)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            root = f"http://{LOOPBACK}:{port}"
            _wait_until(lambda: answers(f"{root}/health"), process)
            yield root
        finally:
            process.kill()


@contextmanager
def llmock() -> Iterator[LLMockServer]:
    """A third party's stand-in for the vendors' protocols, faults included."""
    with LLMockServer(port=free_port()) as server:
        yield server


@contextmanager
def batches_over_in(seconds: float) -> Iterator[None]:
    """So long take the batches that an `llmock` of this process is given meanwhile."""
    read = llmock_batches._read_upload

    async def read_and_close(request: Any) -> Any:
        try:
            return await read(request)
        finally:
            await request.close()  # which it leaves to the collector

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(llmock_batches, "_BATCH_DELAY", seconds)
        patch.setattr(llmock_batches, "_read_upload", read_and_close)
        yield


@dataclass(frozen=True, slots=True)
class QuotaServer:
    """The same as a process of its own, which keeps to a quota and judges who calls it."""

    url: str

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    def requests(self) -> list[dict[str, Any]]:
        """In the order of their arrival, with the monotonic times of the server."""
        found: list[dict[str, Any]] = self._get("requests")["requests"]
        return found

    def verdict(self) -> dict[str, Any]:
        return self._get("verdict")

    def _get(self, what: str) -> dict[str, Any]:
        answer = httpx2.get(f"{self.url}/_llmock/{what}", timeout=30)
        found: dict[str, Any] = answer.raise_for_status().json()
        return found


@contextmanager
def quota_server(*, rpm: int) -> Iterator[QuotaServer]:
    port = free_port()
    command = ("serve", "--port", str(port), "--rpm", str(rpm), "--log-level", "warning")
    with subprocess.Popen(
        [sys.executable, "-m", "llmock.cli", *command], stdout=subprocess.DEVNULL
    ) as process:
        try:
            url = f"http://{LOOPBACK}:{port}"
            _wait_until(lambda: answers(f"{url}/health"), process)
            yield QuotaServer(url)
        finally:
            process.kill()


# What to do with a connection, given the request that came in on it.
Talk = Callable[["RawServer", socket.socket, bytes], None]


class RawServer:
    """Answers every connection by talking to its socket as it is told."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._listener = socket.create_server((LOOPBACK, free_port()))
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept)
        self.stopping = threading.Event()
        self.requests: list[bytes] = []
        self.url = f"http://{LOOPBACK}:{self._listener.getsockname()[1]}"

    def __enter__(self) -> "RawServer":
        self._acceptor.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stopping.set()
        # Closing alone would leave accept() blocked.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def drip(self, connection: socket.socket, parts: Iterator[bytes], *, every: float) -> None:
        """Send part by part until the client hangs up or the server stops."""
        for part in parts:
            connection.sendall(part)
            if self.stopping.wait(every):
                return

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(5)
            asked = _read_request(connection)
            self.requests.append(asked)
            self._talk(self, connection, asked)


def http(body: Any, *, status: str = "200 OK", headers: Iterable[str] = ()) -> bytes:
    """An answer for `RawServer` to send; a body that is no bytes goes as JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [
        f"HTTP/1.1 {status}",
        "Content-Type: application/json",
        f"Content-Length: {len(raw)}",
        "Connection: close",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + raw


@contextmanager
def raw_server(talk: Talk) -> Iterator[RawServer]:
    with RawServer(talk) as server:
        yield server


def _read_request(connection: socket.socket) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received:
        received += _part(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    lengths = [
        line.split(b":")[1] for line in head.lower().split(b"\r\n") if b"content-length" in line
    ]
    while lengths and len(body) < int(lengths[0]):
        body += _part(connection)
    return head + b"\r\n\r\n" + body


def _part(connection: socket.socket) -> bytes:
    part = connection.recv(65536)
    if not part:
        raise ConnectionError("the client has hung up")
    return part


def _wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    tick = threading.Event()
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("the model server did not start")
        tick.wait(0.05)
