"""The platform's published workflows as an MCP server, at `/mcp`.

Every message is judged by Django first, and whatever it asks for is asked of the site itself over
the REST interface: key, scopes, tenant, limits and idempotency are the same as there. Waiting for
a run holds neither a thread nor a connection.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from orchestrator.api.events_feed import Feed
from orchestrator.api.events_stream import App, Message, Receive, Scope, Send, part
from orchestrator.api.workflow_tools import OPEN_TO

PATH: Final = "/mcp"
TENANT: Final = "muster.tenant"
_OPEN_TO: Final = OPEN_TO.lower().encode()
# What belongs to the message, and not to what is asked of the site in its turn.
_OF_THE_MESSAGE: Final = (b"content-", b"accept", b"mcp-", b"cookie", b"idempotency-key")


@dataclass(slots=True)
class Answer:
    """Takes in what the site answers."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], list(message["headers"])
        else:
            self.body += message.get("body", b"")


async def asked(
    site: App,
    scope: Scope,
    *,
    method: str,
    path: str,
    body: bytes = b"",
    headers: Mapping[bytes, bytes] | None = None,
) -> Answer:
    """Ask the site in the name of who sent a message, from the same address."""
    kept = [pair for pair in scope["headers"] if not pair[0].startswith(_OF_THE_MESSAGE)]
    own = {b"content-type": b"application/json", b"accept": b"application/json", **(headers or {})}
    request = {
        **scope,
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [*kept, *own.items(), (b"content-length", str(len(body)).encode())],
    }
    answer = Answer()

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    await site(request, receive, answer)
    return answer


class McpSite:
    """Lets in who may, and hands their messages to the library, which is loaded at the first."""

    def __init__(self, *, site: App, feed: Feed) -> None:
        self._site = site
        self._feed = feed
        self._server: App | None = None
        self._starting = asyncio.Lock()
        self._is_up = asyncio.Event()
        self._is_over = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            # It keeps no sessions, so there is nothing to listen to and nothing to end.
            await _refuse(send, 405, [(b"allow", b"POST")])
            return
        door = await asked(self._site, scope, method="GET", path=PATH)
        tenant = dict(door.headers).get(_OPEN_TO)
        if tenant is None:
            await _refuse(send, door.status, door.headers, door.body)
            return
        server = self._server or await self._started()
        await server({**scope, TENANT: UUID(tenant.decode())}, receive, send)

    async def stop(self) -> None:
        self._is_over.set()
        if self._keeper:
            await self._keeper

    async def _started(self) -> App:
        async with self._starting:
            if self._server is None:
                # The library and what it brings take a second and 40 MB.
                tools = await asyncio.to_thread(self._loaded)
                self._keeper = asyncio.create_task(self._keep(tools))
                await self._is_up.wait()
                self._server = tools.handle_request
        return self._server

    def _loaded(self) -> Any:
        from orchestrator.api.mcp_tools import manager

        return manager(site=self._site, feed=self._feed)

    async def _keep(self, tools: Any) -> None:
        # One task enters and leaves it, as its own group of tasks asks for.
        async with tools.run():
            self._is_up.set()
            await self._is_over.wait()


async def _refuse(
    send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes = b""
) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send(part(body, more=False))
