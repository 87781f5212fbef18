"""A call with tools as it lies in the database, and what it may cost."""

import json
from dataclasses import replace
from decimal import Decimal

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
from costs.core.pricing import Price, token_upper_bound
from costs.core.usage import Usage
from orchestrator.execution.batch_rows import request_from_json, request_in_full
from orchestrator.execution.call_rows import Turn, reply_from_json, reply_to_json, request_to_json
from orchestrator.execution.worst import worst_of

TOOL = ToolSpec(name="add", description="Adds.", parameters={"type": "object"})
CALL = ToolCall(id="call_1", name="add", arguments={"a": 1, "b": [2.5, None, "ü"]})
CUT = ToolCall(id="call_2", name="add", arguments='{"a": 1, "b')
THOUGHT = Opaque(provider="p", model="m", content=[{"type": "thinking", "signature": "EqQ"}])
RESULTS = (
    ToolResult(call_id="call_1", name="add", content="3"),
    ToolResult(call_id="call_2", name="add", content="no JSON", is_error=True),
)
PLAIN = ModelRequest(provider="p", model="m", messages=(Message("user", "1 + 2?"),), system="Hm.")
TURN = Message("assistant", "", tool_calls=(CALL, CUT), opaque=THOUGHT)
ASK = replace(
    PLAIN, messages=(*PLAIN.messages, TURN, Message("user", "", (), RESULTS)), tools=(TOOL,)
)
REPLY = ModelReply(
    text="3",
    finish_reason=FinishReason.STOP,
    usage=Usage(input_tokens=5, output_tokens=1),
    provider="p",
    model="m-1",
    request_id="r",
    latency_ms=3,
)
# A token of input costs 1 nano-USD, one of output nothing.
PRICE = Price(input=Decimal("0.001"), output=Decimal(0))


def test_a_reply_with_calls_comes_back_as_it_was():
    for reply in (REPLY, replace(REPLY, tool_calls=(CALL, CUT), opaque=THOUGHT)):
        assert reply_from_json(json.loads(json.dumps(reply_to_json(reply)))) == reply


def test_request_kept_in_full_comes_back_as_it_was():
    schema = {"type": "object", "properties": {"z": {"type": "string"}, "a": {}}}
    for request in (PLAIN, ASK, replace(PLAIN, output_schema=schema, parameters={"seed": 7})):
        stored = json.loads(json.dumps(request_in_full(request)))
        assert request_from_json(stored) == request


def test_limits_of_the_moment_are_not_kept_with_a_reply():
    stored = reply_to_json(replace(REPLY, limits={"x-ratelimit-remaining": "3"}))

    assert reply_from_json(stored) == REPLY


def test_what_has_to_do_with_no_tools_says_nothing_of_them():
    assert request_to_json(PLAIN)["messages"] == [{"role": "user", "content": "1 + 2?"}]
    assert not {"tools", "tool_calls", "opaque"} & {
        *request_to_json(PLAIN),
        *reply_to_json(REPLY),
    }


def test_a_request_is_kept_with_tools_calls_and_results():
    stored = json.loads(json.dumps(request_to_json(ASK)))

    _, turn, told = stored["messages"]
    assert [ToolSpec(**each) for each in stored["tools"]] == [TOOL]
    assert tuple(ToolCall(**each) for each in turn["tool_calls"]) == TURN.tool_calls
    assert Opaque(**turn["opaque"]) == THOUGHT
    assert tuple(ToolResult(**each) for each in told["tool_results"]) == RESULTS


def test_a_turn_keeps_what_it_adds_to_the_one_before():
    first = Turn(number=3, request=replace(PLAIN, tools=(TOOL,)))

    stored = request_to_json(ASK, before=first)
    changed = request_to_json(replace(ASK, system="Hm?", tools=()), before=first)

    assert stored["follows"] == {"turn": 3, "messages": 1}
    assert stored["messages"] == request_to_json(ASK)["messages"][1:]
    assert not {"system", "tools"} & stored.keys()
    assert (changed["system"], changed["tools"]) == ("Hm?", [])


def test_a_turn_that_leaves_out_the_beginning_is_kept_whole():
    first = Turn(number=1, request=replace(PLAIN, messages=(Message("user", "before"),)))

    assert request_to_json(ASK, before=first) == request_to_json(ASK)


def test_arguments_that_go_deep_can_be_kept():
    deep = {}
    for _ in range(90):
        deep = {"a": [deep]}
    reply = replace(REPLY, tool_calls=(replace(CALL, arguments=deep),))

    assert reply_from_json(reply_to_json(reply)) == reply


def bound(request):
    return worst_of(request, PRICE).bound


def test_the_bound_of_a_call_without_tools_is_its_bytes_and_a_frame():
    assert bound(PLAIN) == token_upper_bound(PLAIN.prompt_text) + 512 + 16


def test_the_bound_covers_what_providers_make_of_tools():
    # As a provider may have a model read it: a system prompt, indented schemas, arguments in tags.
    rules = "You have access to tools. " * 30
    schema = json.dumps({"name": TOOL.name, "parameters": TOOL.parameters}, indent=4)
    call = "".join(f'<parameter name="{name}">1</parameter>\n' for name in CALL.arguments)
    read = token_upper_bound(rules + schema + f"<invoke>{call}</invoke>")

    assert bound(ASK) - bound(PLAIN) > read


def test_each_part_of_a_conversation_raises_the_bound_by_more_than_its_bytes():
    many = {f"k{number}": number for number in range(100)}
    more_calls = replace(
        ASK, messages=(*ASK.messages, Message("assistant", "", (replace(CALL, arguments=many),)))
    )
    more_tools = replace(ASK, tools=(TOOL, replace(TOOL, name="sub")))
    more_results = replace(
        ASK,
        messages=(
            *ASK.messages,
            Message("user", "", (), (replace(RESULTS[0], content="x" * 900),)),
        ),
    )

    assert bound(more_calls) - bound(ASK) > 2 * len(json.dumps(many, separators=(",", ":")))
    assert bound(more_tools) - bound(ASK) > 64
    assert bound(more_results) - bound(ASK) > 900 + 64


def test_a_thought_counts_where_it_is_sent():
    long = replace(THOUGHT, content=[{"signature": "x" * 5000}])
    kept = replace(ASK, messages=(ASK.messages[0], replace(TURN, opaque=long)))

    assert bound(kept) > 5000 > bound(replace(kept, model="other"))
