"""Tools in Anthropic's Messages API, by answers as it gives them."""

from dataclasses import replace

import pytest

from agents_app.core.errors import ProviderError
from agents_app.core.model import FinishReason, Message, ToolCall, ToolResult
from tests.mock_vendors import WEATHER, MockVendor

ASK = Message("user", "What is the weather in Paris, and what in Bogotá?")
USAGE = {"input_tokens": 472, "output_tokens": 89}
PARIS = ToolCall(id="toolu_01A09q90qw90lq917835lq9", name="get_weather", arguments={"a": "Paris"})
BOGOTA = ToolCall(id="toolu_01D7FLrfh4GYq7yT1ULFeyMV", name="get_weather", arguments={"a": "B"})
SAID = {"type": "text", "text": "I'll check both."}
THOUGHT = {"type": "thinking", "thinking": "Two cities.", "signature": "EqQBCgIYAhIM"}
HIDDEN = {"type": "redacted_thinking", "data": "EmwKAhgBEgy3va3pzix"}
SEARCH = {"type": "server_tool_use", "id": "srvtoolu_01", "name": "web_search", "input": {}}


def use(call):
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments}


def answer(*content, stop="tool_use"):
    return {
        "id": "msg_01Aq9w938a90dw8q",
        "type": "message",
        "role": "assistant",
        "model": "m-20250929",
        "content": [*content],
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": USAGE,
    }


def reply_to(body, *messages, **changes):
    return MockVendor("anthropic", body).complete(*(messages or (ASK,)), **changes)


def sent(*messages, **changes):
    vendor = MockVendor("anthropic", answer(SAID, stop="end_turn"))
    vendor.complete(*messages, **changes)
    return vendor.sent[0]


def test_tools_are_offered_with_their_schemas():
    body = sent(ASK)

    assert body["tools"] == [
        {
            "name": "get_weather",
            "description": "Get current temperature for a given location.",
            "input_schema": WEATHER.parameters,
        }
    ]
    assert "tool_choice" not in body


def test_a_conversation_of_calls_names_their_tools_even_if_none_is_offered():
    body = sent(ASK, Message("assistant", "", tool_calls=(PARIS, BOGOTA)), ASK, tools=())

    assert body["tools"] == [{"name": "get_weather", "input_schema": {"type": "object"}}]
    assert body["tool_choice"] == {"type": "none"}


def test_nothing_is_said_of_tools_where_there_are_none():
    assert not {"tools", "tool_choice"} & set(sent(ASK, tools=()))


def test_parallel_calls_come_in_their_order():
    reply = reply_to(answer(SAID, use(PARIS), use(BOGOTA)))

    assert reply.tool_calls == (PARIS, BOGOTA)
    assert (reply.text, reply.finish_reason) == (SAID["text"], FinishReason.TOOL_CALLS)
    assert reply.opaque is None


def test_calls_and_results_go_back_as_the_protocol_has_them():
    told = Message(
        "user",
        "Answer in French.",
        tool_results=(
            ToolResult(call_id=PARIS.id, name="get_weather", content="14°C"),
            ToolResult(call_id=BOGOTA.id, name="get_weather", content="broken", is_error=True),
        ),
    )

    turn = Message("assistant", SAID["text"], tool_calls=(PARIS, BOGOTA))
    messages = sent(ASK, turn, told)["messages"]

    assert messages[1:] == [
        {"role": "assistant", "content": [SAID, use(PARIS), use(BOGOTA)]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": PARIS.id, "content": "14°C"},
                {
                    "type": "tool_result",
                    "tool_use_id": BOGOTA.id,
                    "content": "broken",
                    "is_error": True,
                },
                {"type": "text", "text": "Answer in French."},
            ],
        },
    ]


@pytest.mark.parametrize("text", ["", " \n"])
def test_empty_text_is_left_out_since_the_api_refuses_it(text):
    body = sent(
        ASK,
        Message("assistant", text, tool_calls=(PARIS,)),
        Message("user", text, (), (ToolResult(call_id=PARIS.id, name="w", content="14°C"),)),
        Message("assistant", text),
        ASK,
    )

    blocks = [each["content"] for each in body["messages"]]
    assert blocks[1:] == [
        [use(PARIS)],
        [{"type": "tool_result", "tool_use_id": PARIS.id, "content": "14°C"}],
        ASK.content,
    ]


@pytest.mark.parametrize(
    ("stop", "content", "meant"),
    [
        ("end_turn", [SAID], FinishReason.STOP),
        ("end_turn", [SAID, use(PARIS)], FinishReason.TOOL_CALLS),
        ("tool_use", [SAID], FinishReason.UNKNOWN),
        ("max_tokens", [SAID, use(PARIS)], FinishReason.LENGTH),
        ("model_context_window_exceeded", [SAID], FinishReason.CONTEXT_FULL),
        ("refusal", [], FinishReason.REFUSED),
        ("pause_turn", [SEARCH], FinishReason.PAUSED),
        ("something_new", [SAID], FinishReason.UNKNOWN),
        (None, [], FinishReason.UNKNOWN),
    ],
)
def test_every_stop_reason_has_its_meaning(stop, content, meant):
    assert reply_to(answer(*content, stop=stop)).finish_reason is meant


def test_arguments_that_are_no_object_become_one():
    broken = ToolCall(id="call_1", name="get_weather", arguments='{"location": "Par')

    [block] = sent(ASK, Message("assistant", "", tool_calls=(broken,)))["messages"][1]["content"]

    assert block["input"] == {"arguments": '{"location": "Par'}


def test_names_and_ids_from_elsewhere_are_made_to_fit():
    odd = ToolCall(id="functions.get_weather:0", name="get weather", arguments={})
    result = ToolResult(call_id=odd.id, name=odd.name, content="no such tool", is_error=True)

    _, turn, told = sent(
        ASK, Message("assistant", "", tool_calls=(odd,)), Message("user", "", (), (result,))
    )["messages"]

    assert turn["content"][0]["name"] == "get_weather"
    assert turn["content"][0]["id"].startswith("call_")
    assert told["content"][0]["tool_use_id"] == turn["content"][0]["id"]


def test_a_signed_thought_goes_back_unchanged_and_in_its_place():
    content = [THOUGHT, HIDDEN, SAID, use(PARIS)]
    reply = reply_to(answer(*content))

    assert sent(ASK, reply.message)["messages"][1] == {"role": "assistant", "content": content}
    assert (reply.text, reply.tool_calls) == (SAID["text"], (PARIS,))


def test_a_thought_goes_to_no_other_model():
    reply = reply_to(answer(THOUGHT, SAID, use(PARIS)))

    turn = sent(ASK, reply.message, model="other")["messages"][1]

    assert turn["content"] == [SAID, use(PARIS)]


def test_thoughts_of_a_finished_turn_are_not_kept():
    assert reply_to(answer(THOUGHT, SAID, stop="end_turn")).opaque is None


def test_a_paused_turn_goes_on_with_what_it_holds():
    content = [SAID, SEARCH]
    reply = reply_to(answer(*content, stop="pause_turn"))

    assert sent(ASK, reply.message)["messages"][-1] == {"role": "assistant", "content": content}


def test_calls_of_one_id_are_told_apart_in_the_thoughts_as_well():
    reply = reply_to(answer(THOUGHT, {"type": "text", "text": ""}, use(PARIS), use(PARIS)))

    thought, first, second = sent(ASK, reply.message)["messages"][1]["content"]

    assert (thought, first["id"]) == (THOUGHT, PARIS.id)
    assert second["id"] == reply.tool_calls[1].id != PARIS.id


def test_results_name_the_ids_that_stand_in_the_thoughts():
    odd = replace(PARIS, id="functions.get_weather:0")
    reply = reply_to(answer(THOUGHT, use(odd)))
    results = (ToolResult(call_id=reply.tool_calls[0].id, name="get_weather", content="14°C"),)

    _, turn, told = sent(ASK, reply.message, Message("user", "", (), results))["messages"]

    assert told["content"][0]["tool_use_id"] == turn["content"][1]["id"]


@pytest.mark.parametrize("block", [None, "x", {}, {"type": "tool"}, {"type": ["text"]}])
def test_what_is_no_block_is_passed_over(block):
    reply = reply_to(answer(block, SAID, use(PARIS), THOUGHT))

    assert (reply.text, reply.tool_calls) == (SAID["text"], (PARIS,))
    assert reply.opaque.content[-3:] == [SAID, use(PARIS), THOUGHT]


def test_an_answer_that_is_nested_without_end_is_refused():
    deep = {}
    for _ in range(200):
        deep = {"a": deep}

    with pytest.raises(ProviderError, match="too deeply"):
        reply_to(answer({**THOUGHT, "more": deep}, use(PARIS)))
