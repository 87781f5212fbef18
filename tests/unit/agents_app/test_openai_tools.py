"""Tools in OpenAI's chat protocol, by answers as its servers give them."""

import pytest

from agents_app.core.errors import ProviderError
from agents_app.core.model import FinishReason, Message, ToolCall, ToolResult, ToolSpec
from tests.mock_vendors import WEATHER, MockVendor

ASK = Message("user", "What is the weather like in Paris and Bogotá today?")
USAGE = {"prompt_tokens": 77, "completion_tokens": 41, "total_tokens": 118}
PARIS = ToolCall(id="call_12345xyz", name="get_weather", arguments={"location": "Paris, France"})
BOGOTA = ToolCall(id="call_67890abc", name="get_weather", arguments={"location": "Bogotá"})


def call(arguments, **changes):
    facts = {"id": "call_1", "type": "function"}
    return {**facts, "function": {"name": "get_weather", "arguments": arguments}, **changes}


def answer(*calls, finish="tool_calls", usage=USAGE, **more):
    message = {"role": "assistant", "content": None, "refusal": None, "annotations": []}
    return {
        "id": "chatcmpl-DHvlYn",
        "object": "chat.completion",
        "model": "m-2025-08-07",
        "choices": [
            {
                "index": 0,
                "message": {**message, "tool_calls": [*calls], **more},
                "logprobs": None,
                "finish_reason": finish,
            }
        ],
        "usage": usage,
    }


def reply_to(body, *messages, kind="openai", **changes):
    return MockVendor(kind, body).complete(*(messages or (ASK,)), **changes)


def sent(*messages, kind="openai", **changes):
    vendor = MockVendor(kind, answer(content="Done.", finish="stop"))
    vendor.complete(*messages, **changes)
    return vendor.sent[0]


@pytest.mark.parametrize("kind", ["openai", "xai", "compatible", "ollama", "local"])
def test_tools_are_offered_with_their_schemas(kind):
    [offered] = sent(ASK, kind=kind)["tools"]

    assert offered == {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Get current temperature for a given location.",
            "parameters": WEATHER.parameters,
        },
    }


def test_a_tool_without_a_schema_takes_an_empty_object():
    [offered] = sent(ASK, tools=(ToolSpec(name="now", description="", parameters={}),))["tools"]

    assert offered["function"]["parameters"] == {"type": "object", "properties": {}}


def test_nothing_is_said_of_tools_where_there_are_none():
    assert "tools" not in sent(ASK, tools=())


def test_parallel_calls_come_in_their_order():
    body = answer(
        call('{"location":"Paris, France"}', id=PARIS.id),
        call('{"location":"Bogotá"}', id=BOGOTA.id),
    )

    reply = reply_to(body)

    assert reply.tool_calls == (PARIS, BOGOTA)
    assert (reply.text, reply.finish_reason) == ("", FinishReason.TOOL_CALLS)
    assert reply.opaque is None
    assert not reply.estimated


def test_calls_and_results_go_back_as_the_protocol_has_them():
    told = Message(
        "user",
        "Answer in French.",
        tool_results=(
            ToolResult(call_id=PARIS.id, name="get_weather", content="14°C"),
            ToolResult(call_id=BOGOTA.id, name="get_weather", content="unknown", is_error=True),
        ),
    )

    messages = sent(ASK, Message("assistant", "", tool_calls=(PARIS, BOGOTA)), told)["messages"]

    assert messages[1:] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                call('{"location":"Paris, France"}', id=PARIS.id),
                call('{"location":"Bogotá"}', id=BOGOTA.id),
            ],
        },
        {"role": "tool", "tool_call_id": PARIS.id, "content": "14°C"},
        {"role": "tool", "tool_call_id": BOGOTA.id, "content": "Error: unknown"},
        {"role": "user", "content": "Answer in French."},
    ]


def test_results_alone_are_no_message_of_the_user():
    results = (ToolResult(call_id=PARIS.id, name="get_weather", content=""),)

    messages = sent(
        ASK, Message("assistant", "", tool_calls=(PARIS,)), Message("user", "", (), results)
    )["messages"]

    assert [each["role"] for each in messages] == ["user", "assistant", "tool"]


@pytest.mark.parametrize(
    ("written", "arguments"),
    [
        ('{"location": "Par', '{"location": "Par'),
        ("location=Paris", "location=Paris"),
        ('{"a": NaN}', '{"a": NaN}'),
        ('"Paris"', '"Paris"'),
        ("[" * 300 + "]" * 300, "[" * 300 + "]" * 300),
        ("[" * 50_000, "[" * 50_000),
        ("", {}),
        (" ", {}),
        ("null", {}),
        (None, {}),
        ('["Paris"]', ["Paris"]),
        ("7", 7),
        ({"location": "Paris"}, {"location": "Paris"}),
    ],
)
def test_arguments_are_json_or_what_was_written(written, arguments):
    [made] = reply_to(answer(call(written))).tool_calls

    assert made.arguments == arguments


def test_broken_arguments_go_back_as_they_were_written():
    broken = ToolCall(id="call_1", name="get_weather", arguments='{"location": "Par')

    messages = sent(ASK, Message("assistant", "", tool_calls=(broken,)))["messages"]

    assert messages[1]["tool_calls"][0]["function"]["arguments"] == '{"location": "Par'


@pytest.mark.parametrize(
    ("finish", "calls", "meant"),
    [
        ("stop", 1, FinishReason.TOOL_CALLS),
        ("tool_calls", 0, FinishReason.UNKNOWN),
        ("function_call", 1, FinishReason.TOOL_CALLS),
        ("length", 1, FinishReason.LENGTH),
        ("model_length", 0, FinishReason.CONTEXT_FULL),
        ("content_filter", 1, FinishReason.REFUSED),
        (None, 1, FinishReason.UNKNOWN),
    ],
)
def test_the_end_of_a_turn_is_told_by_its_calls_too(finish, calls, meant):
    reply = reply_to(answer(*[call("{}")] * calls, finish=finish))

    assert (reply.finish_reason, len(reply.tool_calls)) == (meant, calls)


def test_a_refusal_stays_one_beside_calls():
    reply = reply_to(answer(call("{}"), refusal="I cannot help with that."))

    assert reply.finish_reason is FinishReason.REFUSED


@pytest.mark.parametrize("given", [None, "", 7, "call_0", "x" * 65, "call_1_2"])
def test_every_call_has_an_id_of_its_own(given):
    body = answer(call("{}", id=given), call("{}", id=given))
    first = reply_to(body)

    second = reply_to(body, ASK, first.message, Message("user", "Go on."))

    ids = [each.id for each in (*first.tool_calls, *second.tool_calls)]
    assert len(set(ids)) == 4
    assert all(ids)
    again = reply_to(body, ASK, first.message, Message("user", "Go on."))
    assert again.tool_calls == second.tool_calls


@pytest.mark.parametrize("calls", [{"0": {}}, "x", [None, 7, {"id": "call_1"}, {"function": []}]])
def test_what_is_no_call_is_none(calls):
    assert reply_to(answer(tool_calls=calls, content="Hm.", finish="stop")).tool_calls == ()


def test_a_call_of_nothing_is_kept_and_can_be_told():
    reply = reply_to(answer({"id": "call_1", "function": {}}))

    [wired] = sent(ASK, reply.message)["messages"][1]["tool_calls"]

    assert reply.tool_calls == (ToolCall(id="call_1", name="", arguments={}),)
    assert wired["function"] == {"name": "_", "arguments": "{}"}


def test_names_and_ids_from_elsewhere_are_made_to_fit():
    odd = ToolCall(id="x" * 41, name="functions.get weather", arguments={})
    result = ToolResult(call_id=odd.id, name=odd.name, content="no such tool", is_error=True)

    _, turn, told = sent(
        ASK, Message("assistant", "", tool_calls=(odd,)), Message("user", "", (), (result,))
    )["messages"]

    assert turn["tool_calls"][0]["function"]["name"] == "functions_get_weather"
    assert len(told["tool_call_id"]) <= 40
    assert told["tool_call_id"] == turn["tool_calls"][0]["id"]


SIGNED = {"google": {"thought_signature": "CvcBAXLI2nx"}}


def test_thoughts_go_back_to_the_model_that_wants_them():
    body = answer(
        call("{}", extra_content=SIGNED),
        call("{}", id="call_2"),
        reasoning_content="First Paris.",
    )
    reply = reply_to(body, kind="compatible")

    turn = sent(ASK, reply.message, kind="compatible")["messages"][1]

    assert turn["reasoning_content"] == "First Paris."
    assert [each.get("extra_content") for each in turn["tool_calls"]] == [SIGNED, None]


def test_thoughts_go_to_no_other_model():
    body = answer(call("{}", extra_content=SIGNED), reasoning_content="First Paris.")
    reply = reply_to(body, kind="compatible")

    for elsewhere in (
        sent(ASK, reply.message, kind="compatible", model="other"),
        sent(ASK, reply.message, kind="openai"),
    ):
        assert set(elsewhere["messages"][1]) == {"role", "content", "tool_calls"}
        assert set(elsewhere["messages"][1]["tool_calls"][0]) == {"id", "type", "function"}


def test_thoughts_of_a_finished_turn_are_not_kept():
    body = answer(content="14°C.", reasoning_content="Easy.", finish="stop")

    assert reply_to(body, kind="compatible").opaque is None


def test_usage_that_is_missing_is_guessed_from_the_calls_too():
    usage = reply_to(answer(call('{"location":"Paris, France"}'), usage=None)).usage

    assert usage.estimated
    assert usage.output_tokens > 10
    assert usage.input_tokens > reply_to(answer(usage=None), tools=()).usage.input_tokens


def test_an_answer_that_is_nested_without_end_is_refused():
    deep = {}
    for _ in range(200):
        deep = {"a": deep}

    with pytest.raises(ProviderError, match="too deeply"):
        reply_to(answer(call(deep)))
