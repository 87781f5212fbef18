"""Sessions with MCP servers: one for each listing and each call, from threads that know no loop.

Nothing is kept open between them, so that no server's death and no worker's matters to another.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import anyio
import httpx2
from pydantic import JsonValue, ValidationError

from agents_app.core import values
from agents_app.core.cancellation import current_cancellation
from agents_app.core.errors import McpServerError
from agents_app.core.mcp import MOST_TOOLS, Offer, plain_text

if TYPE_CHECKING:  # slow to import, so it is at run time only where it is used
    from mcp.client.client import Client

# Beyond these the server wants to keep us busy.
_MOST_PAGES: Final = 20
_MOST_OFFERS: Final = 4 * MOST_TOOLS
_SHOWN: Final = 300
# How long a server may take to hear that its session is over.
_GOODBYE_SECONDS: Final = 2.0
T = TypeVar("T")
AUTO: Final = "auto"
_LEGACY: Final = "legacy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A server as a program of the operator's, which speaks over its pipes."""

    command: str
    arguments: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Whom to ask: an address with its token, or a command. `protocol` spares finding it out."""

    url: str = ""
    token: str = field(default="", repr=False)
    command: Command | None = None
    protocol: str = AUTO


@dataclass(frozen=True, slots=True, kw_only=True)
class Introduction:
    """What a server says of itself. `protocol` is how to speak with it the next time."""

    protocol: str
    offers: tuple[Offer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a call gave; with `is_error` the tool's own words of why it failed."""

    output: JsonValue
    is_error: bool


def introduction(target: Target, *, within_seconds: float) -> Introduction:
    """What the server offers now. Raises McpServerError."""

    async def ask(turn: _Turn[Introduction]) -> None:
        async with _client(target, within_seconds) as client:
            offers = tuple([offer async for offer in _offers(client)])
            turn.end(Introduction(protocol=_spoken(client.protocol_version), offers=offers))

    return _run(ask, within_seconds)


def called(
    target: Target, tool: str, arguments: Mapping[str, JsonValue], *, within_seconds: float
) -> Answer:
    """Call a tool by its server's name. Raises McpServerError, which says if it is in doubt."""

    async def ask(turn: _Turn[Answer]) -> None:
        async with _client(target, within_seconds) as client:
            turn.has_begun = True
            turn.end(_answer(await _result(client, tool, dict(arguments))))

    return _run(ask, within_seconds)


@dataclass(slots=True)
class _Turn(Generic[T]):
    """How far a session has come: what happens after its answer does not matter any more."""

    limit: anyio.CancelScope
    has_begun: bool = False
    answer: T | None = None

    def end(self, answer: T) -> None:
        self.answer = answer
        self.limit.deadline = min(self.limit.deadline, anyio.current_time() + _GOODBYE_SECONDS)


def _run(ask: Callable[[_Turn[T]], Coroutine[Any, Any, None]], seconds: float) -> T:
    """Run in a loop of its own; every failure is told, as one that is in doubt once it began."""
    turns: list[_Turn[T]] = []

    async def within_time() -> None:
        with anyio.fail_after(seconds) as limit, anyio.CancelScope() as scope:
            turns.append(_Turn(limit))
            stop = partial(_soon, asyncio.get_running_loop(), scope.cancel)
            current_cancellation().then(stop)
            await ask(turns[0])

    try:
        anyio.run(within_time)
        failure = McpServerError("nobody waits for its answer any more", True)
    except Exception as error:  # whatever the library makes of what a stranger sends
        failure = _failure(error, seconds)
    (turn,) = turns
    if turn.answer is None:
        raise McpServerError(failure.detail, turn.has_begun and failure.in_doubt) from failure
    return turn.answer


def _failure(error: Exception, seconds: float) -> McpServerError:
    if isinstance(error, McpServerError):
        return error
    if isinstance(error, TimeoutError):
        return McpServerError(f"no answer within {seconds:.3g} s", True)
    return McpServerError(_reason(error), not _is_answer(error))


@asynccontextmanager
async def _client(target: Target, seconds: float) -> AsyncIterator[Client]:
    from mcp.client.client import Client
    from mcp.client.stdio import StdioServerParameters, stdio_client
    from mcp.client.streamable_http import streamable_http_client

    from agents_app.mcp.transport import MAX_ANSWER_BYTES, listening

    if target.command:
        parameters = StdioServerParameters(
            command=target.command.command,
            args=list(target.command.arguments),
            env=dict(target.command.environment),
        )
        with open(os.devnull, "w") as nowhere:
            async with Client(stdio_client(parameters, nowhere), mode=target.protocol) as client:
                yield client
        return
    headers = {"Authorization": f"Bearer {target.token}"} if target.token else {}
    async with listening(headers=headers, seconds=seconds) as http:
        transport = streamable_http_client(
            target.url, http_client=http.client, max_sse_event_size=MAX_ANSWER_BYTES
        )
        try:
            async with Client(transport, mode=target.protocol, cache=None) as client:
                yield client
        except Exception as error:
            # The library tells what it saw last; how the server answered says more.
            if http.trouble:
                raise McpServerError(http.trouble, not http.is_refused) from error
            raise


async def _offers(client: Client) -> AsyncIterator[Offer]:
    cursor, count = None, 0
    for _ in range(_MOST_PAGES):
        page = await client.list_tools(cursor=cursor)
        for tool in page.tools:
            hints = tool.annotations
            yield Offer(
                name=tool.name,
                description=tool.description or (hints and hints.title) or tool.title or "",
                schema=tool.input_schema,
                is_repeatable=bool(hints and (hints.read_only_hint or hints.idempotent_hint)),
                # Left out, the hint counts as true for whatever may change something; only what a
                # server says of one tool sets that apart from its others.
                is_destructive=bool(hints and hints.destructive_hint and not hints.read_only_hint),
            )
            count += 1
        cursor = page.next_cursor
        if cursor is None or count >= _MOST_OFFERS:
            return


async def _result(client: Client, tool: str, arguments: dict[str, JsonValue]) -> Any:
    """Past the library's own `call_tool`, which applies the server's output schema as it comes."""
    from mcp.shared.exceptions import MCPError
    from mcp_types import HEADER_MISMATCH

    try:
        return await _call(client, tool, arguments)
    except MCPError as error:
        if error.code != HEADER_MISMATCH:
            raise
    # The server wants some arguments repeated in headers, which the listing tells; it did nothing.
    async for _ in _offers(client):
        pass
    return await _call(client, tool, arguments)


async def _call(client: Client, tool: str, arguments: dict[str, JsonValue]) -> Any:
    from mcp_types import CallToolRequest, CallToolRequestParams, CallToolResult

    parameters = CallToolRequestParams(name=tool, arguments=arguments)
    return await client.session.send_request(CallToolRequest(params=parameters), CallToolResult)


def _answer(result: Any) -> Answer:
    texts = [_text(block) for block in result.content]
    said = plain_text("\n\n".join(filter(None, texts)))
    if result.is_error:
        return Answer(output=said or "it failed without a word", is_error=True)
    if result.structured_content is not None:
        return Answer(output=values.clean(result.structured_content), is_error=False)
    return Answer(output=said, is_error=False)


def _text(block: Any) -> str:
    """What a model can read of a part of the answer; of the rest, that it is there."""
    match block.type:
        case "text":
            return str(block.text)
        case "resource":
            inner = block.resource
            return str(getattr(inner, "text", "")) or f"[{inner.uri}: not text]"
        case "resource_link":
            return f"[{block.uri}]"
    return f"[{block.type}, {block.mime_type}: not text]"


def _spoken(version: str) -> str:
    """How to begin with a server that speaks this version."""
    from mcp_types.version import MODERN_PROTOCOL_VERSIONS

    return version if version in MODERN_PROTOCOL_VERSIONS else _LEGACY


def _soon(loop: asyncio.AbstractEventLoop, work: Callable[[], None]) -> None:
    # The call may have ended in this very moment, and its loop with it.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(work)


def _reason(error: BaseException) -> str:
    first = _first(error)
    if isinstance(first, ValidationError):
        return "its answer is not in the form that MCP asks for"
    if isinstance(first, httpx2.TransportError):
        return f"the connection failed: {plain_text(str(first))[:_SHOWN] or type(first).__name__}"
    return plain_text(str(first))[:_SHOWN] or type(first).__name__


def _is_answer(error: BaseException) -> bool:
    """Whether the server has answered the call, or cannot have heard of it."""
    from mcp.shared.exceptions import MCPError
    from mcp_types import CONNECTION_CLOSED

    first = _first(error)
    if isinstance(first, MCPError):
        return first.code != CONNECTION_CLOSED
    return isinstance(first, httpx2.ConnectError | httpx2.ConnectTimeout)


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
