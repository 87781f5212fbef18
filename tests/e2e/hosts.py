"""Hosts with a network of their own: namespaces of this machine that can be cut off."""

import asyncio
import os
import random
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import pytest

SERVERS = ("DATABASE_URL", "SYSTEM_DATABASE_URL", "REDIS_URL")
# Waits for the end of its input, which comes however its parent dies.
_GUARD = """
trap '' INT TERM HUP
cat > /dev/null
ip netns pids "$1" | xargs -r kill -9
ip netns delete "$1"
ip link delete "$2"
"""


@dataclass(frozen=True, slots=True)
class Host:
    """`link` is our end of its only cable; `environment` is where it finds the servers."""

    name: str
    link: str
    environment: dict[str, str]

    @property
    def inside(self) -> tuple[str, ...]:
        """What a command begins with, to run on the host."""
        return ("ip", "netns", "exec", self.name)

    def cut_off(self) -> None:
        _ip("link", "set", self.link, "down")

    def heal(self) -> None:
        _ip("link", "set", self.link, "up")


@contextmanager
def host() -> Iterator[Host]:
    """Skips the test where the machine does not allow it. Nothing is left, however this ends."""
    if shutil.which("ip") is None:
        pytest.skip("hosts apart need `ip` of iproute2")
    number = f"{os.getpid():x}{random.randrange(4096):03x}"
    name, link = f"muster-{number}", f"mu{number}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"hosts apart need network namespaces: {made.stderr.strip()}")
    with ExitStack() as stack:
        stack.enter_context(_guarded(name, link))
        address = _wire(name, link)
        environment = {
            variable: stack.enter_context(_forwarded(os.environ[variable], address))
            for variable in SERVERS
        }
        yield Host(name, link, environment)


@contextmanager
def _guarded(name: str, link: str) -> Iterator[None]:
    guard = subprocess.Popen(
        ["sh", "-c", _GUARD, "guard", name, link],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert guard.stdin
    with guard:
        try:
            yield
        finally:
            guard.stdin.close()


def _wire(name: str, link: str) -> str:
    """A cable between us and the host; gives the address of our end."""
    net = f"10.{random.randrange(200, 250)}.{random.randrange(256)}"
    inner = f"{link}i"
    _ip("link", "add", link, "type", "veth", "peer", "name", inner)
    _ip("link", "set", inner, "netns", name)
    _ip("addr", "add", f"{net}.1/30", "dev", link)
    _ip("link", "set", link, "up")
    _ip("-n", name, "addr", "add", f"{net}.2/30", "dev", inner)
    _ip("-n", name, "link", "set", inner, "up")
    _ip("-n", name, "link", "set", "lo", "up")
    return f"{net}.1"


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@contextmanager
def _forwarded(url: str, address: str) -> Iterator[str]:
    """The server of `url`, which listens to this machine alone, at an address of ours."""
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    forwarder = _Forwarder(parts.hostname, parts.port)
    try:
        port = asyncio.run_coroutine_threadsafe(forwarder.start(address), loop).result(10)
        user, _, _ = parts.netloc.rpartition("@")
        yield urlunsplit(parts._replace(netloc=f"{user}@{address}:{port}"))
    finally:
        asyncio.run_coroutine_threadsafe(forwarder.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class _Forwarder:
    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._open: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, address: str) -> int:
        self._server = await asyncio.start_server(self._serve, address, 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        if self._server:
            self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._open.add(task)
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
            await asyncio.gather(_pass_on(reader, far_writer), _pass_on(far_reader, writer))
        except (OSError, asyncio.CancelledError):
            writer.close()
        finally:
            self._open.discard(task)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
