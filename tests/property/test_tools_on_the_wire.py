"""Whatever is said with tools arrives, and comes back as it went."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents_app.core.errors import ProviderError, ProviderErrorKind
from agents_app.core.model import FinishReason, Message, ModelReply, ToolCall, ToolResult
from tests.mock_vendors import MockVendor

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
said = texts.filter(lambda text: bool(text.strip()))
names = st.from_regex(r"[a-zA-Z0-9_-]{1,30}", fullmatch=True)
numbers = st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
arguments = st.dictionaries(texts, values, max_size=3)
# What a model wrote and nobody can read; whatever can be read is JSON.
garbled = st.just('{"a": ') | st.just("a = 1") | st.just("{'a': 1}")


@st.composite
def conversations(draw: st.DrawFn, arguments: st.SearchStrategy[Any] = arguments) -> list[Message]:
    messages = [Message("user", draw(said))]
    ids = iter(draw(st.lists(names, min_size=9, max_size=9, unique=True)))
    for _ in range(draw(st.integers(1, 3))):
        calls = tuple(
            ToolCall(id=next(ids), name=draw(names), arguments=draw(arguments))
            for _ in range(draw(st.integers(1, 3)))
        )
        results = tuple(
            ToolResult(
                call_id=each.id, name=each.name, content=draw(texts), is_error=draw(st.booleans())
            )
            for each in calls
        )
        messages.append(Message("assistant", draw(st.just("") | said), tool_calls=calls))
        messages.append(Message("user", draw(st.just("") | said), tool_results=results))
    return messages


class Echo:
    """A vendor that says again what it was told to have said last."""

    def __init__(self, kind: str) -> None:
        self.vendor = MockVendor(kind)
        self.is_anthropic = kind == "anthropic"

    def wired(self, messages: list[Message]) -> list[dict[str, Any]]:
        self.vendor.answer = self._answer({"role": "assistant", "content": "Hm."})
        self.vendor.complete(*messages)
        return self.vendor.sent.pop()["messages"]

    def echo(self, messages: list[Message]) -> ModelReply:
        wired = self.wired(messages)
        self.vendor.answer = self._answer(wired[-1])
        return self.vendor.complete(*messages[:-1])

    def _answer(self, turn: dict[str, Any]) -> dict[str, Any]:
        if self.is_anthropic:
            content = turn["content"]
            blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
            return {"content": blocks, "stop_reason": "tool_use"}
        return {"choices": [{"message": turn, "finish_reason": "tool_calls"}]}


ECHOES = {kind: Echo(kind) for kind in ("openai", "anthropic", "compatible")}


@pytest.mark.parametrize("kind", ECHOES)
@given(messages=conversations())
def test_a_turn_comes_back_as_it_was_sent(kind: str, messages: list[Message]) -> None:
    turn = messages[-2]

    reply = ECHOES[kind].echo(messages[:-1])

    assert reply.message == turn
    assert reply.finish_reason is FinishReason.TOOL_CALLS


@pytest.mark.parametrize("kind", ["openai", "compatible"])
@given(messages=conversations(garbled))
def test_garbled_arguments_do_too_where_they_are_text(kind: str, messages: list[Message]) -> None:
    assert ECHOES[kind].echo(messages[:-1]).message == messages[-2]


@given(messages=conversations())
def test_every_result_reaches_openai_once_and_in_order(messages: list[Message]) -> None:
    wired = ECHOES["openai"].wired(messages)

    told = [(each["tool_call_id"], each["content"]) for each in wired if each["role"] == "tool"]
    spoken = [each["content"] for each in wired if each["role"] == "user"]
    results = [result for message in messages for result in message.tool_results]
    assert told == [
        (each.call_id, f"Error: {each.content}" if each.is_error else each.content)
        for each in results
    ]
    assert spoken == [each.content for each in messages if each.role == "user" and each.content]


@given(messages=conversations())
def test_anthropic_can_tell_all_that_users_brought(messages: list[Message]) -> None:
    wired = ECHOES["anthropic"].wired(messages)

    assert [_user_from_anthropic(each["content"]) for each in wired if each["role"] == "user"] == [
        (each.content, [(r.call_id, r.content, r.is_error) for r in each.tool_results])
        for each in messages
        if each.role == "user"
    ]


def mostly(sound: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.integers(0, 7).flatmap(lambda fate: sound if fate else values)


def object_of(**parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries({name: mostly(part) for name, part in parts.items()})


ids = st.sampled_from(["call_1", "call_1_2", "x" * 65, ""])
kinds = st.sampled_from(["tool_use", "tool_use", "text", "thinking"])
blocks = object_of(type=kinds, id=ids, name=texts, input=values, text=texts, signature=texts)
called = object_of(name=texts, arguments=texts | garbled | values)
calls = object_of(id=ids, function=called, extra_content=values)
turns = object_of(
    content=texts, tool_calls=st.lists(mostly(calls), max_size=4), reasoning_content=texts
)
ends = st.sampled_from(["tool_use", "tool_calls", "stop", "end_turn", "pause_turn", "length"])
CHOICES = st.lists(mostly(object_of(message=turns, finish_reason=ends)), min_size=1, max_size=2)
ODD_ANSWERS = {
    "anthropic": object_of(
        content=st.lists(mostly(blocks), max_size=4), stop_reason=ends, usage=values
    ),
    "compatible": object_of(choices=CHOICES, usage=values),
}


@pytest.mark.parametrize("kind", ODD_ANSWERS)
@given(data=st.data())
def test_whatever_a_server_says_can_be_told_again(kind: str, data: st.DataObject) -> None:
    vendor = ECHOES[kind].vendor
    vendor.answer = data.draw(ODD_ANSWERS[kind])
    ask = Message("user", "Hello.")

    try:
        reply = vendor.complete(ask)
        results = tuple(
            ToolResult(call_id=call.id, name=call.name, content="") for call in reply.tool_calls
        )
        again = vendor.complete(ask, reply.message, Message("user", "", (), results))
    except ProviderError as error:
        if error.kind is not ProviderErrorKind.PROTOCOL:
            raise
        return

    own = [call.id for each in (reply, again) for call in each.tool_calls]
    assert len(set(own)) == len(own) == 2 * len(reply.tool_calls)
    assert not (reply.tool_calls and reply.finish_reason is FinishReason.STOP)


def _user_from_anthropic(content: Any) -> tuple[str, list[tuple[str, str, bool]]]:
    if isinstance(content, str):
        return content, []
    results = [
        (block["tool_use_id"], block["content"], block.get("is_error", False))
        for block in content
        if block["type"] == "tool_result"
    ]
    texts = [block["text"] for block in content[len(results) :]]
    return "".join(texts), results
