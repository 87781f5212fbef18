"""The web process: Django as WSGI in a pool of threads, and event streams without one.

Django's own ASGI handler answers a third fewer requests of synchronous views; see
docs/adr/0011-streams-beside-wsgi.md.
"""

import asyncio
import contextvars
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from tempfile import SpooledTemporaryFile
from types import FrameType
from typing import IO, Any, Final

from asgiref.wsgi import WsgiToAsgiInstance
from django.conf import settings

from orchestrator.api.events_feed import Feed
from orchestrator.api.events_stream import EventStreams, Message, Receive, Scope, Send, part
from orchestrator.api.mcp_site import PATH as MCP_PATH
from orchestrator.api.mcp_site import McpSite

THREADS: Final = 16
_IN_MEMORY_BYTES = 1024 * 1024
_PORTION_BYTES = 256 * 1024


class WsgiSite:
    """A WSGI program behind ASGI. Slow uploads and slow readers of short answers hold no thread."""

    def __init__(self, program: Callable[..., Any], *, threads: int) -> None:
        self._program = program
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="web")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()

        def send_from_thread(message: Message) -> None:
            asyncio.run_coroutine_threadsafe(_sent(send, message), loop).result()

        with SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES) as body:
            if not await _is_read(receive, body):
                return
            work = partial(self._answer, _environ(scope, body), send_from_thread)
            context = contextvars.copy_context()
            for message in await loop.run_in_executor(self._pool, context.run, work):
                await send(message)

    def _answer(self, environ: dict[str, Any], send: Callable[[Message], None]) -> list[Message]:
        """Answer in this thread from beginning to end, as Django's connections need it.

        What is left at the end, mostly the whole, is given back: sending it needs no thread.
        """
        unsent: list[Message] = []

        def start(status: str, headers: list[tuple[str, str]], *_: Any) -> None:
            unsent.append(_start(status, headers))

        chunks = self._program(environ, start)
        try:
            for portion in _portions(chunks):
                unsent.append(part(portion))
                if len(portion) >= _PORTION_BYTES:
                    for message in unsent:
                        send(message)
                    unsent.clear()
        finally:
            chunks.close()
        return _ended(unsent)


class Web:
    """What the server is given: the site, its streams, and what they live on."""

    def __init__(self, program: Callable[..., Any]) -> None:
        self._site = WsgiSite(program, threads=THREADS)
        self._streams: EventStreams | None = None
        self._mcp: McpSite | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["path"] == MCP_PATH and self._mcp:
            await self._mcp(scope, receive, send)
        elif self._streams:
            await self._streams(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        feed = Feed(settings.REDIS_URL)
        feed.start()
        _before_leaving(feed.end)
        self._streams = EventStreams(site=self._site, feed=feed)
        self._mcp = McpSite(site=self._site, feed=feed)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._mcp.stop()
        await feed.stop()
        await send({"type": "lifespan.shutdown.complete"})


def _before_leaving(work: Callable[[], None]) -> None:
    """Do it as soon as the process is asked to end: its server would first wait for all answers."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        servers = signal.getsignal(number)

        def leave(number: int, frame: FrameType | None, then: Any = servers) -> None:
            loop.call_soon_threadsafe(work)
            if callable(then):
                then(number, frame)

        signal.signal(number, leave)


async def _is_read(receive: Receive, body: IO[bytes]) -> bool:
    """Take in the request's body; False if its sender has gone.

    No more than Django would take: what is longer it refuses by its declared length.
    """
    more = True
    while more and body.tell() <= settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
        message = await receive()
        if message["type"] != "http.request":
            return False
        body.write(message.get("body", b""))
        more = message.get("more_body", False)
    body.seek(0)
    return True


def _environ(scope: Scope, body: IO[bytes]) -> dict[str, Any]:
    # How many headers there may be is the server's to say.
    translator = WsgiToAsgiInstance(None, duplicate_header_limit=0)  # type: ignore[no-untyped-call]
    translator.scope = scope
    environ: dict[str, Any] = translator.build_environ(scope, body)  # type: ignore[no-untyped-call]
    return environ


def _start(status: str, headers: Iterable[tuple[str, str]]) -> Message:
    pairs = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    return {"type": "http.response.start", "status": int(status[:3]), "headers": pairs}


def _portions(chunks: Iterable[bytes]) -> Iterator[bytes]:
    gathered = bytearray()
    for chunk in chunks:
        gathered += chunk
        if len(gathered) >= _PORTION_BYTES:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)


def _ended(unsent: list[Message]) -> list[Message]:
    has_body = bool(unsent) and "body" in unsent[-1]
    last = unsent.pop()["body"] if has_body else b""
    return [*unsent, part(last, more=False)]


async def _sent(send: Send, message: Message) -> None:
    # Servers give back something to await, which need not be a coroutine.
    await send(message)
