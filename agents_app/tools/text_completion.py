from typing import Annotated

from pydantic import Field

from agents_app.core.completing import Completion
from agents_app.core.errors import ToolFailedError
from agents_app.core.model import FinishReason
from agents_app.core.tools import ToolContext, tool

_USABLE = frozenset({FinishReason.STOP, FinishReason.LENGTH})


@tool(timeout_seconds=300, max_result_bytes=256 * 1024, asks_models=True)
def text_completion(
    prompt: Annotated[str, Field(min_length=1, max_length=200_000)],
    context: ToolContext,
    system: Annotated[str, Field(max_length=20_000)] = "",
    model: Annotated[
        str, Field(max_length=200, description="Empty: your own; or one of your fallbacks.")
    ] = "",
    max_tokens: Annotated[int, Field(ge=1, le=16_000)] = 1_000,
) -> dict[str, str | bool]:
    """Ask a model for one text, which knows nothing but this prompt; it costs what a call costs."""
    wanted = Completion(prompt=prompt, system=system, model=model, max_output_tokens=max_tokens)
    reply = context.models.complete(wanted, call_id=context.call_id)
    if reply.finish_reason not in _USABLE or not reply.text.strip():
        raise ToolFailedError("text_completion", f"no text came: {reply.finish_reason}")
    is_cut = reply.finish_reason is FinishReason.LENGTH
    return {"text": reply.text, "truncated": is_cut, "model": reply.model}
