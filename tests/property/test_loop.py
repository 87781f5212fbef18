"""Whatever a model and its tools do, an agent keeps within its limits and forgets no call."""

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from agents_app.core import loop
from agents_app.core.model import (
    FinishReason,
    Message,
    ModelReply,
    ModelRequest,
    ToolCall,
    ToolSpec,
)
from costs.core.usage import Usage

STATES = TypeAdapter(loop.State)
LIMITS = loop.LoopLimits(turns=6, tokens=200, calls_per_turn=3, failed_turns=4)
IDS = st.sampled_from(["", "a", "b", "call_1_1", "call_2_1"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
CALLS = st.builds(
    ToolCall, id=IDS, name=st.sampled_from(["search", "read", "other"]), arguments=JSON
)
REPLIES = st.builds(
    ModelReply,
    text=st.text(max_size=20) | st.just('{"answer": 1}'),
    finish_reason=st.sampled_from([*FinishReason, *[FinishReason.TOOL_CALLS] * 6]),
    usage=st.builds(Usage, input_tokens=st.integers(0, 40), output_tokens=st.integers(0, 40)),
    provider=st.just("simulated"),
    model=st.just("sim"),
    tool_calls=st.lists(CALLS, max_size=5).map(tuple),
)
ANY_EVENT = st.one_of(
    st.just(loop.Started()),
    st.builds(loop.Answered, REPLIES),
    st.builds(loop.ToolFinished, IDS, st.text()),
    st.builds(loop.ToolFailed, IDS, st.text()),
)
REQUEST = ModelRequest(
    provider="simulated",
    model="sim",
    messages=(Message("user", "Find it."),),
    tools=tuple(
        ToolSpec(name=name, description=name, parameters={"type": "object"})
        for name in ("search", "read")
    ),
)


@dataclass
class Seen:
    """What was done of what the loop asked for, and what the model was told."""

    state: loop.State
    asked: Counter[str] = field(default_factory=Counter)
    model_calls: int = 0
    ends: int = 0

    def tell(self, event: loop.Event) -> loop.Effect | None:
        self.state, effect = loop.step(self.state, event)
        assert STATES.validate_json(STATES.dump_json(self.state)) == self.state
        match effect:
            case loop.CallModel(request):
                self.model_calls += 1
                assert_every_call_has_one_answer(request.messages)
            case loop.CallTools(_, calls):
                assert 0 < len(calls) <= LIMITS.calls_per_turn
                self.asked.update(call.id for call in calls)
            case loop.Done() | loop.Failed():
                self.ends += 1
        return effect

    def check(self) -> None:
        assert self.model_calls <= LIMITS.turns
        assert self.ends <= 1
        assert set(self.asked.values()) <= {1}


def assert_every_call_has_one_answer(messages: tuple[Message, ...]) -> None:
    asked = [call.id for message in messages for call in message.tool_calls]
    told = [result.call_id for message in messages for result in message.tool_results]
    assert asked == told
    assert len({*asked}) == len(asked)


def new() -> Seen:
    return Seen(loop.State(request=REQUEST, limits=LIMITS))


@given(st.lists(ANY_EVENT, max_size=30))
def test_any_events_in_any_order_keep_within_the_limits(events: list[loop.Event]) -> None:
    seen = new()
    for event in events:
        seen.tell(event)

    seen.check()


@given(st.data())
def test_every_conversation_ends_with_each_call_answered_once(data: st.DataObject) -> None:
    seen = new()
    effect = seen.tell(loop.Started())
    while not isinstance(effect, loop.Done | loop.Failed):
        if isinstance(effect, loop.CallTools):
            for call in data.draw(st.permutations(effect.calls)):
                finished = data.draw(st.booleans())
                ended = (
                    loop.ToolFinished(call.id, "x") if finished else loop.ToolFailed(call.id, "no")
                )
                effect = seen.tell(ended)
        else:
            effect = seen.tell(loop.Answered(data.draw(REPLIES)))

    seen.check()
    assert seen.ends == 1
    assert seen.state.phase is loop.Phase.ENDED
