"""What models say in tests: a text, or calls of tools."""

from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from agents_app.core.model import FinishReason, ModelReply, ModelRequest, ToolCall
from costs.core.usage import Usage

Says = str | Sequence[tuple[str, Mapping[str, JsonValue]]]


class Killed(BaseException):
    """The worker is gone: nothing catches this."""


def reply(request: ModelRequest, text: str, *calls: ToolCall) -> ModelReply:
    return ModelReply(
        text=text,
        finish_reason=FinishReason.TOOL_CALLS if calls else FinishReason.STOP,
        usage=Usage(input_tokens=10, output_tokens=5),
        provider=request.provider,
        model=request.model,
        tool_calls=calls,
    )


def reply_of(request: ModelRequest, says: Says, *, turn: int) -> ModelReply:
    """Calls are named by their turn and their number in it."""
    if isinstance(says, str):
        return reply(request, says)
    calls = (
        ToolCall(id=f"t{turn}c{number}", name=name, arguments=dict(arguments))
        for number, (name, arguments) in enumerate(says)
    )
    return reply(request, "", *calls)
