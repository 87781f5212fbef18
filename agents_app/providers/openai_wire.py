"""Conversations with tools as OpenAI's chat protocol has them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import JsonValue

from agents_app.core.model import Message, ModelRequest, ToolCall, ToolResult, ToolSpec
from agents_app.providers.tool_calls import (
    arguments_text,
    calls_of,
    id_on_wire,
    name_on_wire,
    schema_of,
)

_IDS = re.compile(r".{1,40}", re.DOTALL)
# What servers behind this protocol want back in a turn that calls tools, each in its own way:
# what the model thought (DeepSeek), the same in parts (OpenRouter), signatures of it (Gemini).
_OPAQUE = ("reasoning_content", "reasoning_details", "extra_content")


def tools_on_wire(tools: Sequence[ToolSpec]) -> list[dict[str, Any]]:
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": schema_of(tool),
            },
        }
        for tool in tools
    ]


def messages_on_wire(request: ModelRequest) -> list[dict[str, Any]]:
    system = [{"role": "system", "content": request.system}] if request.system else []
    return [*system, *(wired for each in request.messages for wired in _wired(each, request))]


def calls_from_wire(message: Mapping[str, Any], *, request: ModelRequest) -> tuple[ToolCall, ...]:
    stated = (
        (call.get("id"), call["function"].get("name"), call["function"].get("arguments"))
        for call in _stated_calls(message)
    )
    return calls_of(stated, request=request)


def opaque_from_wire(message: Mapping[str, Any]) -> dict[str, Any] | None:
    """What has to go back with a turn that calls tools; None if that is nothing."""
    calls = [_opaque(call) for call in _stated_calls(message)]
    own = _opaque(message)
    if not calls or not (own or any(calls)):
        return None
    return {"message": own, "calls": calls}


def _wired(message: Message, request: ModelRequest) -> list[dict[str, Any]]:
    if message.role == "assistant":
        return [_assistant(message, request.opaque_of(message))]
    results = [_result(each) for each in message.tool_results]
    if results and not message.content:
        return results
    return [*results, {"role": "user", "content": message.content}]


def _assistant(message: Message, opaque: JsonValue) -> dict[str, Any]:
    if not message.tool_calls:
        return {"role": "assistant", "content": message.content}
    kept: dict[str, Any] = opaque if isinstance(opaque, dict) else {"message": {}, "calls": []}
    calls = [
        {
            "id": id_on_wire(call.id, fits=_IDS),
            "type": "function",
            "function": {"name": name_on_wire(call.name), "arguments": arguments_text(call)},
        }
        for call in message.tool_calls
    ]
    for call, more in zip(calls, kept["calls"], strict=False):
        call |= more
    return {
        "role": "assistant",
        "content": message.content or None,
        "tool_calls": calls,
        **kept["message"],
    }


def _result(result: ToolResult) -> dict[str, Any]:
    # The protocol has no word for a failure.
    content = f"Error: {result.content}" if result.is_error else result.content
    call_id = id_on_wire(result.call_id, fits=_IDS)
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def _stated_calls(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    stated = message.get("tool_calls")
    calls = [each for each in stated if isinstance(each, dict)] if isinstance(stated, list) else []
    return [call for call in calls if isinstance(call.get("function"), dict)]


def _opaque(part: Mapping[str, Any]) -> dict[str, Any]:
    return {name: part[name] for name in _OPAQUE if part.get(name)}
