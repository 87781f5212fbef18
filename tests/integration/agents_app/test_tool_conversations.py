"""Tools used over both protocols, with servers that were written elsewhere."""

import json

import pytest
from llmock.scenarios import Fail, Reply, ToolFault
from llmock.scenarios import ToolCall as Scripted

from agents_app.core.errors import ProviderError, ProviderErrorKind
from agents_app.core.model import FinishReason, Message, ToolResult, ToolSpec
from agents_app.tools.builtin import BUILTIN_TOOLS
from tests.integration.agents_app.providers import client, request
from tests.model_servers import MODEL_NAME

CALCULATOR = BUILTIN_TOOLS["calculator"]
OFFERED = ToolSpec(
    name=CALCULATOR.name, description=CALCULATOR.description, parameters=CALCULATOR.parameters
)
TASK = Message("user", "Use the calculator: what is 6 * 7, and what is 1 / 0?")


@pytest.fixture(params=["openai", "anthropic", "xai"])
def provider(request, llmock_server):
    return client(request.param, llmock_server.base_url(request.param))


def asked(*messages):
    return request(messages=(TASK, *messages), tools=(OFFERED,))


def observed(reply, *contents):
    """The reply, and what its calls came to, as the messages that go on."""
    pairs = zip(reply.tool_calls, contents, strict=True)
    results = tuple(
        ToolResult(call_id=call.id, name=call.name, content=content, is_error="zero" in content)
        for call, content in pairs
    )
    return reply.message, Message("user", "", tool_results=results)


def test_a_model_calls_what_it_is_offered_and_answers_when_it_has_the_result(provider):
    first = provider.complete(asked())
    [call] = first.tool_calls

    last = provider.complete(asked(*observed(first, "42")))

    assert (call.name, first.finish_reason) == ("calculator", FinishReason.TOOL_CALLS)
    assert isinstance(call.arguments["expression"], str)
    assert last.finish_reason is FinishReason.STOP
    assert last.text


def test_parallel_calls_are_answered_together(provider, llmock_server):
    llmock_server.state.scenarios.add(
        Reply(
            text="Both at once.",
            tool_calls=(
                Scripted("calculator", {"expression": "6 * 7"}),
                Scripted("calculator", {"expression": "1 / 0"}),
            ),
        ),
        Reply(text="42, and nothing."),
    )

    first = provider.complete(asked())
    last = provider.complete(asked(*observed(first, "42", "division by zero")))

    assert first.text == "Both at once."
    assert [call.arguments["expression"] for call in first.tool_calls] == ["6 * 7", "1 / 0"]
    assert len({call.id for call in first.tool_calls}) == 2
    assert (last.text, last.tool_calls) == ("42, and nothing.", ())


def test_a_conversation_goes_over_five_turns(provider, llmock_server):
    scripted = Reply(tool_calls=(Scripted("calculator", {"expression": "1 + 1"}),))
    llmock_server.state.scenarios.add(*[scripted] * 4, Reply(text="8"))
    messages = []

    for _ in range(4):
        reply = provider.complete(asked(*messages))
        messages += observed(reply, "2")

    assert provider.complete(asked(*messages)).text == "8"
    assert len({call.id for each in messages for call in each.tool_calls}) == 4


def test_a_tool_that_was_never_offered_is_told_as_it_is(provider, llmock_server):
    llmock_server.state.scenarios.add(ToolFault("unknown_tool"))

    reply = provider.complete(asked())

    assert reply.tool_calls[0].name == "llmock_unknown_tool"
    assert provider.complete(asked(*observed(reply, "no such tool"))).text


@pytest.mark.parametrize("kind", ["openai", "xai"])
def test_cut_arguments_are_kept_as_text_and_can_be_told(kind, llmock_server):
    provider = client(kind, llmock_server.base_url(kind))
    llmock_server.state.scenarios.add(ToolFault("malformed_arguments"))

    reply = provider.complete(asked())

    arguments = reply.tool_calls[0].arguments
    assert isinstance(arguments, str)
    with pytest.raises(ValueError):
        json.loads(arguments)
    assert provider.complete(asked(*observed(reply, "that was no JSON"))).text


def test_a_failure_amid_a_conversation_loses_nothing_of_it(provider, llmock_server):
    first = provider.complete(asked())
    again = asked(*observed(first, "42"))
    llmock_server.state.scenarios.add(Fail(529))

    with pytest.raises(ProviderError) as failed:
        provider.complete(again)

    assert failed.value.kind is ProviderErrorKind.OVERLOADED
    assert provider.complete(again).text


def test_a_conversation_moves_from_one_protocol_to_the_other(llmock_server):
    messages = []
    for kind in ("openai", "anthropic", "xai", "anthropic", "openai"):
        llmock_server.state.scenarios.add(
            Reply(tool_calls=(Scripted("calculator", {"expression": kind}),))
        )
        reply = client(kind, llmock_server.base_url(kind)).complete(asked(*messages))
        messages += observed(reply, "2")

    assert [each.tool_calls[0].arguments["expression"] for each in messages[::2]] == [
        "openai",
        "anthropic",
        "xai",
        "anthropic",
        "openai",
    ]


@pytest.mark.parametrize("kind", ["local", "anthropic"])
@pytest.mark.parametrize("arguments", [{"expression": "6 * 7"}, '{"expression": "6 *', "6 * 7"])
def test_a_real_server_reads_calls_and_results(kind, arguments, smollm2_url):
    url = f"{smollm2_url}/v1" if kind == "local" else smollm2_url
    provider = client(kind, url)
    scripted = client("simulated", "").complete(
        request(
            parameters={
                "script": [{"tool_calls": [{"name": "calculator", "arguments": arguments}] * 2}]
            }
        )
    )
    results = observed(scripted, "42", "division by zero")
    ask = request(
        messages=(TASK, *results), tools=(OFFERED,), model=MODEL_NAME, deadline_seconds=60.0
    )

    reply = provider.complete(ask)

    assert reply.usage.input_tokens > 50
    assert reply.finish_reason in (
        FinishReason.STOP,
        FinishReason.LENGTH,
        FinishReason.TOOL_CALLS,
    )
