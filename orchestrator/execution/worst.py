"""What a call may cost at most, before it is made."""

from agents_app.core import values
from agents_app.core.model import ModelRequest
from costs.core.pricing import Price, estimate_tokens, token_upper_bound, worst_case
from orchestrator.execution.call_rows import Worst

# What chat formats and the frames around schemas add to the text of a request.
_TOKENS_PER_MESSAGE = 16
_TOKENS_PER_REQUEST = 512
# With tools a provider writes a system prompt of its own: 160 to 800 tokens at Anthropic.
_TOKENS_FOR_TOOLS = 1024
# The frame around a tool, a call or a result: a few tags or keys, and the place of an id.
_TOKENS_PER_TOOL = 64


def worst_of(request: ModelRequest, price: Price) -> Worst:
    text, most = request.prompt_text, request.max_output_tokens
    guess, surely = estimate_tokens(text), token_upper_bound(text) + _around(request)
    return Worst(
        input_tokens=guess,
        estimate=worst_case(input_bound=guess, max_output=most, price=price),
        bound=worst_case(input_bound=surely, max_output=most, price=price),
    )


def _around(request: ModelRequest) -> int:
    """The most tokens that are read beside the text."""
    plain = _TOKENS_PER_REQUEST + _TOKENS_PER_MESSAGE * len(request.messages)
    calls = [call for each in request.messages for call in each.tool_calls]
    results = [result for each in request.messages for result in each.tool_results]
    if not (request.tools or calls or results):
        return plain
    ids = [call.id for call in calls] + [result.call_id for result in results]
    framed = len(request.tools) + len(calls) + len(results)
    # Schemas and arguments count twice: a model may get to read them in another form than ours,
    # indented, or with a pair of tags for every argument.
    again = [values.dump(dict(tool.parameters)) for tool in request.tools]
    again += [values.dump(call.arguments) for call in calls]
    return (
        plain
        + _TOKENS_FOR_TOOLS
        + _TOKENS_PER_TOOL * framed
        + sum(map(token_upper_bound, [*ids, *again]))
    )
