"""Values that agents of a run share by key, and those that one keeps for itself."""

from typing import Annotated, Any

from pydantic import Field, JsonValue

from agents_app.core.context_store import MAX_KEY_LENGTH, ContextValue
from agents_app.core.tools import ToolContext, tool

_WAIT = 50
# A value of 64 KB, and what is told of it.
_MAX_RESULT_BYTES = 68 * 1024
Key = Annotated[str, Field(min_length=1, max_length=MAX_KEY_LENGTH)]


@tool(max_result_bytes=_MAX_RESULT_BYTES)
def context_get(
    context: ToolContext,
    key: Key,
    private: bool = False,
    newer_than: Annotated[int, Field(ge=0)] | None = None,
    wait_seconds: Annotated[float, Field(ge=0, le=_WAIT)] = 0,
) -> dict[str, Any]:
    """Read a value that agents of this run share, or with `private` one of your own.

    Version 0 means that nobody has written it. With `newer_than` it waits up to `wait_seconds` for
    a later version than that.
    """
    if newer_than is None:
        return _told(context.shared.get(key, is_private=private))
    found = context.shared.wait(
        key, newer_than=newer_than, seconds=wait_seconds, is_private=private
    )
    return _told(found)


@tool()
def context_set(
    context: ToolContext,
    key: Key,
    value: JsonValue,
    private: bool = False,
    expected_version: Annotated[int, Field(ge=0)] | None = None,
) -> dict[str, Any]:
    """Write a value for all agents of this run, or with `private` for yourself alone.

    With `expected_version` only if nobody has written it since that version; 0 stands for none.
    """
    written = context.shared.set(
        key,
        value,
        call_id=context.call_id,
        is_private=private,
        expected_version=expected_version,
    )
    return {"key": key, "version": written.version}


def _told(found: ContextValue) -> dict[str, Any]:
    return {
        "key": found.key,
        "version": found.version,
        "value": found.value,
        "writer": found.writer,
    }
