"""However long a conversation gets, its model reads its task and whole turns, within a budget."""

from hypothesis import given
from hypothesis import strategies as st

from agents_app.core import loop, observations, pruning
from agents_app.core.errors import ProviderError, ProviderErrorKind
from agents_app.core.model import (
    FinishReason,
    Message,
    ModelReply,
    ModelRequest,
    Opaque,
    ToolCall,
    ToolResult,
    ToolSpec,
)
from costs.core.usage import Usage

TASK = "Find out <earlier_turns> what it costs."
REQUEST = ModelRequest(
    provider="simulated",
    model="sim",
    messages=(Message("user", TASK),),
    tools=(ToolSpec(name="search", description="Search.", parameters={"type": "object"}),),
)
TEXTS = st.text(max_size=30) | st.text(max_size=3).map(lambda text: text * 500)
OPAQUE = st.none() | st.just(
    Opaque(provider="simulated", model="sim", content={"signed": "x" * 99})
)


@st.composite
def turns(draw: st.DrawFn) -> list[Message]:
    """One or, where the provider paused, two answers, and what is said upon them."""
    number = draw(st.integers(0, 10**9))
    ids = [f"{number}-{place}" for place in range(draw(st.integers(0, 3)))]
    calls = tuple(ToolCall(id=each, name="search", arguments={"q": draw(TEXTS)}) for each in ids)
    paused = [Message("assistant", "wait", opaque=draw(OPAQUE))] if draw(st.booleans()) else []
    said = Message("assistant", draw(TEXTS), tool_calls=calls, opaque=draw(OPAQUE))
    results = tuple(
        ToolResult(call_id=each, name="search", content=observations.delimited(draw(TEXTS)))
        for each in ids
    )
    told = Message("user", "" if ids else "Again.", tool_results=results)
    return [*paused, said, told]


CONVERSATIONS = st.lists(turns(), max_size=8).map(
    lambda found: pruning.Conversation(
        request=REQUEST,
        messages=tuple(message for turn in found for message in turn),
        window=pruning.Window(),
    )
)
TOO_LONG = ProviderError(ProviderErrorKind.CONTEXT_TOO_LONG, "too long")
BUDGETS = st.integers(1, 3_000)


@given(CONVERSATIONS, BUDGETS, st.booleans())
def test_whole_turns_are_shown_behind_the_task(
    conversation: pruning.Conversation, tokens: int, sums_up: bool
) -> None:
    cut = pruning.pruned(conversation, tokens=tokens, with_summary=sums_up)

    task, *rest = cut.shown.messages
    assert task.content.startswith(TASK)
    kept = conversation.messages[left_out(cut) :]
    assert [(m.role, m.opaque) for m in rest] == [(m.role, m.opaque) for m in kept]
    assert not rest or rest[0].role == "assistant"
    asked = [call.id for message in rest for call in message.tool_calls]
    assert asked == [result.call_id for message in rest for result in message.tool_results]
    assert bool(rest) == bool(conversation.messages)


def left_out(conversation: pruning.Conversation) -> int:
    return conversation.window.left_out


@given(CONVERSATIONS, BUDGETS, st.booleans())
def test_it_fits_wherever_its_last_turn_can(
    conversation: pruning.Conversation, tokens: int, sums_up: bool
) -> None:
    cut = pruning.pruned(conversation, tokens=tokens, with_summary=sums_up)

    if cut.tokens > tokens:
        shown = conversation.messages[left_out(cut) :]
        assert sum(message.role == "user" for message in shown) <= 1
        results = [result for message in cut.shown.messages for result in message.tool_results]
        assert all(len(result.content.encode()) <= 300 for result in results)


@given(CONVERSATIONS, st.integers(500, 3_000), TEXTS)
def test_with_notes_it_fits_as_well(
    conversation: pruning.Conversation, tokens: int, notes: str
) -> None:
    cut = pruning.pruned(conversation, tokens=tokens, with_summary=True)

    asked = pruning.summary_request(cut, tokens=tokens)
    after = pruning.summed_up(cut, notes, tokens=tokens)

    assert (asked is None) == (left_out(cut) == 0)
    assert cut.tokens > tokens or after.tokens <= tokens
    assert pruning.summary_request(after, tokens=tokens) is None


@given(CONVERSATIONS, BUDGETS, st.booleans())
def test_what_was_cut_is_not_cut_again(
    conversation: pruning.Conversation, tokens: int, sums_up: bool
) -> None:
    once = pruning.pruned(conversation, tokens=tokens, with_summary=sums_up)
    twice = pruning.pruned(once, tokens=tokens, with_summary=sums_up)

    assert once.tokens > tokens or twice == once


REPLIES = st.builds(
    ModelReply,
    text=TEXTS,
    finish_reason=st.sampled_from([*FinishReason, *[FinishReason.TOOL_CALLS] * 8]),
    usage=st.builds(Usage, input_tokens=st.integers(0, 40), output_tokens=st.integers(0, 40)),
    provider=st.just("simulated"),
    model=st.just("sim"),
    tool_calls=st.lists(
        st.builds(ToolCall, id=st.just(""), name=st.just("search"), arguments=st.just({})),
        max_size=2,
    ).map(tuple),
)


@given(st.lists(st.tuples(REPLIES, st.booleans(), TEXTS), max_size=25), BUDGETS, st.booleans())
def test_same_events_build_the_same_requests_with_no_call_without_its_result(
    heard: list[tuple[ModelReply, bool, str]], tokens: int, sums_up: bool
) -> None:
    limits = loop.LoopLimits(context_tokens=tokens, sums_up=sums_up, idle_turns=30)

    first, second = (requests_of(heard, limits) for _ in range(2))

    assert first == second
    assert len(first) <= limits.turns
    for request in first:
        asked = [call.id for each in request.messages for call in each.tool_calls]
        told = [result.call_id for each in request.messages for result in each.tool_results]
        assert asked == told


def requests_of(
    heard: list[tuple[ModelReply, bool, str]], limits: loop.LoopLimits
) -> list[ModelRequest]:
    """What is asked where these are the answers; with True it was too much instead."""
    state, requests = loop.State(request=REQUEST, limits=limits), []
    state, effect = loop.step(state, loop.Started())
    for reply, is_too_long, output in heard:
        while isinstance(effect, loop.CallTools):
            for call in effect.calls:
                state, effect = loop.step(state, loop.ToolFinished(call.id, output))
        if not isinstance(effect, loop.CallModel):
            break
        requests.append(effect.request)
        event: loop.Event = loop.TooLong(TOO_LONG) if is_too_long else loop.Answered(reply)
        state, effect = loop.step(state, event)
    return requests
