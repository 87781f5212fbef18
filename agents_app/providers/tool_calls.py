"""Calls of tools, where the protocols and those who claim to speak them are alike."""

import re
from collections.abc import Iterable
from hashlib import sha256

from pydantic import JsonValue

from agents_app.core import values
from agents_app.core.model import (
    FinishReason,
    JsonSchema,
    Message,
    ModelRequest,
    ToolCall,
    ToolSpec,
)
from agents_app.providers.answers import is_deep, name_of

_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_-]")
_LONGEST = 64


def calls_of(
    stated: Iterable[tuple[object, object, object]], *, request: ModelRequest
) -> tuple[ToolCall, ...]:
    """The calls that an answer states as id, name and arguments.

    Some servers give no ids, and some the same ones again: those calls get ids that we make.
    """
    taken = {call.id for message in request.messages for call in message.tool_calls}
    turn = 1 + sum(message.role == "assistant" for message in request.messages)
    calls = []
    for place, (call_id, name, arguments) in enumerate(stated, start=1):
        own = call_id if isinstance(call_id, str) and len(call_id) <= _LONGEST else ""
        if not own or own in taken:
            own = f"call_{turn}_{place}"
        while own in taken:
            own += "_"
        taken.add(own)
        calls.append(ToolCall(id=own, name=name_of(name), arguments=_arguments_of(arguments)))
    return tuple(calls)


def finish_of(stated: FinishReason, calls: tuple[ToolCall, ...]) -> FinishReason:
    """How a turn ended, given what it calls: some servers say `stop` all the same."""
    if calls and stated is FinishReason.STOP:
        return FinishReason.TOOL_CALLS
    if not calls and stated is FinishReason.TOOL_CALLS:
        return FinishReason.UNKNOWN
    return stated


def written(text: str, calls: tuple[ToolCall, ...]) -> str:
    """All that the model wrote, for estimates of its length."""
    return Message("assistant", text, tool_calls=calls).text


def arguments_text(call: ToolCall) -> str:
    """The arguments as the model wrote them, or might have."""
    return values.as_text(call.arguments)


def schema_of(tool: ToolSpec) -> JsonSchema:
    """The schema of its arguments, as an object even where it states nothing."""
    return {"type": "object", "properties": {}, **tool.parameters}


def name_on_wire(name: str) -> str:
    """A name that no provider refuses. Models make names up, and have to be shown what they did."""
    return _NOT_IN_A_NAME.sub("_", name)[:_LONGEST] or "_"


def id_on_wire(call_id: str, *, fits: re.Pattern[str]) -> str:
    """The id, or what stands for it at a provider that takes no such id from another one."""
    if fits.fullmatch(call_id):
        return call_id
    return f"call_{sha256(call_id.encode()).hexdigest()[:32]}"


def _arguments_of(written: object) -> JsonValue:
    """The JSON that a model wrote, else its text; nothing, where it left a call without any."""
    if isinstance(written, dict | list | int | float):
        return written  # some servers send the object where the protocol has its text
    if not isinstance(written, str) or not written.strip():
        return {}
    try:
        value = values.parse(written)
    except ValueError:
        return written
    if value is None:
        return {}
    return written if isinstance(value, str) or is_deep(value) else value
