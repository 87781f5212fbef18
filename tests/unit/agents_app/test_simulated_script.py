"""Conversations with tools that are played without a model."""

from dataclasses import replace

import pytest

from agents_app.core.errors import ProviderError, ProviderErrorKind
from agents_app.core.model import FinishReason, Message, ModelRequest, ToolCall, ToolResult
from agents_app.providers.base import ProviderKind, ProviderSettings, client_for

ASK = ModelRequest(provider="sim", model="m", messages=(Message("user", "What is 6 x 7?"),))
ADD = {"name": "calculator", "arguments": {"expression": "6 * 7"}}
SCRIPT = [{"text": "Let me see.", "tool_calls": [ADD, ADD]}, {"text": "It is 42."}]


def client(**options):
    return client_for(ProviderSettings(name="sim", kind=ProviderKind.SIMULATED, options=options))


def said(request, reply):
    """The request that comes after this reply."""
    results = tuple(
        ToolResult(call_id=call.id, name=call.name, content="42") for call in reply.tool_calls
    )
    return replace(
        request, messages=(*request.messages, reply.message, Message("user", "", (), results))
    )


def play(sim, request=ASK, turns=2):
    replies = []
    for _ in range(turns):
        replies.append(sim.complete(request))
        request = said(request, replies[-1])
    return replies


def test_a_script_is_played_turn_by_turn():
    first, last = play(client(script=SCRIPT))

    assert (first.text, first.finish_reason) == ("Let me see.", FinishReason.TOOL_CALLS)
    assert first.tool_calls == tuple(
        ToolCall(id=f"call_1_{place}", name="calculator", arguments={"expression": "6 * 7"})
        for place in (1, 2)
    )
    assert (last.text, last.finish_reason) == ("It is 42.", FinishReason.STOP)
    assert last.tool_calls == ()


def test_the_turn_that_is_due_is_told_by_the_request_alone():
    replies = play(client(script=SCRIPT))

    assert play(client(script=SCRIPT)) == replies
    assert client(script=SCRIPT).complete(said(ASK, replies[0])) == replies[1]


def test_the_last_turn_stands_for_all_that_follow():
    replies = play(client(script=[{"tool_calls": [ADD]}]), turns=5)

    assert [reply.finish_reason for reply in replies] == [FinishReason.TOOL_CALLS] * 5
    assert len({reply.tool_calls[0].id for reply in replies}) == 5


def test_a_step_brings_a_script_of_its_own():
    ask = replace(ASK, parameters={"script": SCRIPT, "latency": 0.001})

    assert [reply.text for reply in play(client(text="no"), ask)] == ["Let me see.", "It is 42."]


def test_a_turn_may_end_badly():
    sim = client(script=[{"text": "I'd rather not.", "finish_reason": "refused"}])

    assert sim.complete(ASK).finish_reason is FinishReason.REFUSED


def test_a_script_goes_with_failures_and_counts():
    sim = client(script=SCRIPT, fail_attempts=["overloaded", "ok"], input_tokens=9)

    with pytest.raises(ProviderError) as failed:
        sim.complete(ASK)
    reply = sim.complete(replace(ASK, attempt=2))

    assert failed.value.kind is ProviderErrorKind.OVERLOADED
    assert reply.usage.input_tokens == 9
    assert reply.usage.output_tokens > 10


def test_the_output_bound_cuts_a_script():
    whole = client(script=SCRIPT).complete(ASK)
    tokens = whole.usage.output_tokens

    cut = [
        client(script=SCRIPT).complete(replace(ASK, max_output_tokens=most))
        for most in (tokens, tokens - 1, 3, 1)
    ]

    assert cut[0] == whole
    assert [len(reply.tool_calls) for reply in cut] == [2, 1, 0, 0]
    assert [reply.text for reply in cut[1:]] == ["Let me see.", "Let me see.", "Let "]
    assert {reply.finish_reason for reply in cut[1:]} == {FinishReason.LENGTH}
    assert [reply.usage.output_tokens for reply in cut[1:]] == [tokens - 1, 3, 1]


@pytest.mark.parametrize(
    "script",
    [
        [],
        "text",
        [{"says": "x"}],
        [{"tool_calls": [{"arguments": {}}]}],
        [{"finish_reason": "bored"}],
        [{"text": None}],
    ],
)
def test_a_wrong_script_is_refused(script):
    with pytest.raises(ProviderError) as refused:
        client(script=script).complete(ASK)

    assert refused.value.kind is ProviderErrorKind.INVALID_REQUEST
    assert "script" in str(refused.value)
