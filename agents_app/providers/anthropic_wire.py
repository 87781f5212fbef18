"""Conversations with tools as Anthropic's Messages API has them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import JsonValue

from agents_app.core.model import Message, ModelRequest, ToolCall, ToolResult, ToolSpec
from agents_app.providers.tool_calls import calls_of, id_on_wire, name_on_wire, schema_of

_IDS = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_PLAIN = ("text", "tool_use")


def tools_on_wire(tools: Sequence[ToolSpec]) -> list[dict[str, Any]]:
    return [
        {"name": tool.name, "description": tool.description, "input_schema": schema_of(tool)}
        for tool in tools
    ]


def tool_arguments(request: ModelRequest) -> dict[str, Any]:
    """What a request says of tools: those that it offers, else the names of those called before.

    The API refuses a conversation with calls in it that knows of no tool.
    """
    if request.tools:
        return {"tools": tools_on_wire(request.tools)}
    called = {name_on_wire(call.name) for each in request.messages for call in each.tool_calls}
    if not called:
        return {}
    return {
        "tools": [{"name": name, "input_schema": {"type": "object"}} for name in sorted(called)],
        "tool_choice": {"type": "none"},
    }


def messages_on_wire(request: ModelRequest) -> list[dict[str, Any]]:
    wired = ((each, _content(each, request.opaque_of(each))) for each in request.messages)
    # An answer may be empty, but the API does not take it back as such.
    return [
        {"role": each.role, "content": content}
        for each, content in wired
        if each.role == "user" or _says_something(content)
    ]


def calls_from_wire(content: Sequence[Any], *, request: ModelRequest) -> tuple[ToolCall, ...]:
    stated = (
        (block.get("id"), block.get("name"), block.get("input"))
        for block in _blocks(content)
        if block["type"] == "tool_use"
    )
    return calls_of(stated, request=request)


def opaque_from_wire(
    content: Sequence[Any], calls: Sequence[ToolCall], *, is_paused: bool
) -> JsonValue:
    """The blocks of a turn that goes on, if there is more to them than text and calls."""
    # What the API itself may have written, but would not read.
    blocks = [block for block in _blocks(content) if not _is_empty_text(block)]
    has_more = any(block["type"] not in _PLAIN for block in blocks)
    if not is_paused and not (calls and has_more):
        return None
    # The ids as results will name them.
    called = iter(calls)
    return [
        {**block, **_named_again(next(called))} if block["type"] == "tool_use" else block
        for block in blocks
    ]


def _content(message: Message, opaque: JsonValue) -> Any:
    if isinstance(opaque, list):
        return opaque
    blocks = [*map(_result, message.tool_results), *map(_call, message.tool_calls)]
    if not blocks:
        return message.content
    text = [{"type": "text", "text": message.content}] if message.content.strip() else []
    # Results have to stand first, and calls last.
    return [*blocks, *text] if message.role == "user" else [*text, *blocks]


def _call(call: ToolCall) -> dict[str, Any]:
    return {"type": "tool_use", "name": name_on_wire(call.name), **_named_again(call)}


def _named_again(call: ToolCall) -> dict[str, Any]:
    # The protocol has objects alone.
    is_object = isinstance(call.arguments, Mapping)
    return {
        "id": id_on_wire(call.id, fits=_IDS),
        "input": call.arguments if is_object else {"arguments": call.arguments},
    }


def _result(result: ToolResult) -> dict[str, Any]:
    return {
        "type": "tool_result",
        "tool_use_id": id_on_wire(result.call_id, fits=_IDS),
        "content": result.content,
        **({"is_error": True} if result.is_error else {}),
    }


def _says_something(content: Any) -> bool:
    return bool(content.strip() if isinstance(content, str) else content)


def _is_empty_text(block: Mapping[str, Any]) -> bool:
    return block["type"] == "text" and not block.get("text")


def _blocks(content: Sequence[Any]) -> Iterator[dict[str, Any]]:
    found = (block for block in content if isinstance(block, dict))
    return (block for block in found if isinstance(block.get("type"), str))
