from typing import Annotated, Literal

from pydantic import Field, JsonValue

from agents_app.core.errors import MemoryRefusedError, ToolFailedError
from agents_app.core.memory import MAX_KEY, Memory, MemoryScope, Note
from agents_app.core.recalling import told
from agents_app.core.tools import ToolContext, tool

_Whose = Literal["run", "agent", "tenant"]
_Key = Annotated[str, Field(min_length=1, max_length=MAX_KEY)]
_MOST_BYTES = 2_000
# Twenty entries, each byte escaped.
_MOST_FOUND_BYTES = 300_000


@tool()
def remember(
    context: ToolContext,
    note: Annotated[str, Field(min_length=1, max_length=8_000)],
    key: _Key | None = None,
    whose: _Whose | None = None,
    days: Annotated[int, Field(ge=1, le=3_650)] | None = None,
) -> dict[str, JsonValue]:
    """Keep a note for later.

    Under a key, it takes the place of what was kept there. `whose` is who finds it: all agents of
    this run, this agent in its later runs (so it is if you leave it out), or all agents of the
    tenant. It is kept for so many days, else for good.
    """
    memory = _memory_of(context, "remember")
    scope = MemoryScope(whose) if whose else _usual(memory)
    try:
        version = memory.keep(scope, Note(note=note), call_id=context.call_id, key=key, days=days)
    except MemoryRefusedError as error:
        raise ToolFailedError("remember", str(error)) from error
    return {"key": key or str(context.call_id), "whose": scope.value, "version": version}


@tool(max_result_bytes=_MOST_FOUND_BYTES)
def recall(
    context: ToolContext,
    query: Annotated[str, Field(max_length=2_000)] = "",
    whose: list[_Whose] | None = None,
    limit: Annotated[int, Field(ge=1, le=20)] = 5,
) -> list[JsonValue]:
    """Find what was kept, best first: entries with any word of the query; without one the latest.

    `whose` narrows it to what was kept for this run, for this agent, or for the tenant.
    """
    memory = _memory_of(context, "recall")
    scopes = [MemoryScope(each) for each in whose] if whose else memory.scopes
    found = memory.search(query, scopes=scopes, limit=limit)
    return [told(entry, most_bytes=_MOST_BYTES) for entry in found]


@tool()
def forget(context: ToolContext, key: _Key, whose: _Whose) -> bool:
    """Forget what was kept under a key, and say whether there was such a thing."""
    memory = _memory_of(context, "forget")
    try:
        return memory.forget(MemoryScope(whose), key, call_id=context.call_id)
    except MemoryRefusedError as error:
        raise ToolFailedError("forget", str(error)) from error


def _memory_of(context: ToolContext, name: str) -> Memory:
    if context.memory is None:
        raise ToolFailedError(name, "there is no memory here")
    return context.memory


def _usual(memory: Memory) -> MemoryScope:
    """An agent that is not saved has only what it shares."""
    return MemoryScope.AGENT if MemoryScope.AGENT in memory.scopes else MemoryScope.RUN
