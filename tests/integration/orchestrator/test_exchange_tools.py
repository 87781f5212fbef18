"""The tools by which agents talk and share, in steps without a model and in agents with one."""

from typing import Any

import pytest

from agents_app.core.errors import ToolFailedError
from agents_app.core.tools import ToolContext
from agents_app.tools.builtin import BUILTIN_TOOLS
from orchestrator.models import ToolCall
from tests.e2e.stories import start
from tests.engine_driver import drain, step_of
from tests.talk import Talker, talkers
from tests.world import World


def tool(name: str, needs: list[str] | None = None, **arguments: Any) -> dict[str, Any]:
    step: dict[str, Any] = {"agent": {"type": "tool", "tool": name}, "arguments": arguments}
    return {**step, "needs": needs} if needs else step


def context_of(agent: Talker, number: int = 0) -> ToolContext:
    claim = agent.claim
    return ToolContext(
        tenant_id=claim.tenant_id,
        run_id=claim.run_id,
        agent_run_id=claim.agent_run_id,
        step=claim.step,
        call_id=claim.agent_run_id,
        messages=agent.bus,
        shared=agent.context,
        todos=agent.todos,
    ).for_call(1, str(number))


def test_todo_is_made_and_listed_without_a_model(acme: World) -> None:
    steps = {
        "create": tool("todo_create", text="buy milk"),
        "list": tool("todo_list", ["create"]),
    }

    run = drain(acme, start(acme, steps, output="${steps.list.output}"))

    assert run.status == "completed"
    (todo,) = run.output["todos"]
    assert (todo["id"], todo["text"], todo["status"]) == (1, "buy milk", "pending")
    assert (run.output["total"], run.output["completed"]) == (1, 0)


def test_steps_without_a_model_send_share_and_read(acme: World) -> None:
    steps = {
        "send": tool("send_message", content={"n": 1}, to="read"),
        "set": tool("context_set", ["send"], key="n", value=[1, 2]),
        "get": tool("context_get", ["set"], key="n"),
        "read": tool("read_messages", ["get"]),
    }

    run = drain(acme, start(acme, steps))

    assert run.status == "completed"
    assert step_of(acme, run.id, "get").output["value"] == [1, 2]
    (message,) = step_of(acme, run.id, "read").output
    assert (message["from"], message["content"]) == ("send", {"n": 1})


def test_agent_with_a_model_uses_them(acme: World) -> None:
    turns = [
        ("todo_create", {"text": "buy milk", "priority": 8}),
        ("todo_update", {"id": 1, "completed": True}),
        ("todo_list", {"status": "completed"}),
        ("todo_delete", {"id": 1}),
        ("todo_read", {"id": 1}),
        ("send_message", {"content": "hello", "to": "nobody"}),
        ("subscribe_messages", {"topic": "news"}),
    ]
    script = [{"tool_calls": [{"name": name, "arguments": given}]} for name, given in turns]
    agent = {
        "type": "react",
        "provider": "simulated",
        "model": "sim",
        "tools": sorted({name for name, _ in turns}),
    }
    parameters = {"script": [*script, {"text": "done"}]}
    run_id = start(acme, {"a": {"agent": agent, "prompt": "Go.", "parameters": parameters}})

    run = drain(acme, run_id)

    assert (run.status, run.output) == ("completed", "done")
    with acme.scope():
        calls = {call.tool: call for call in ToolCall.objects.filter(run=run)}
    assert calls["todo_list"].output["percent"] == 100
    assert calls["todo_read"].error == "there is no todo with this id"
    assert calls["send_message"].error == "there is no step 'nobody' in this run"
    assert calls["subscribe_messages"].output == "subscribed"


def test_capabilities_are_type_role_and_tools(acme: World) -> None:
    steps = {
        "send": tool("send_message", content="for who adds up", capability="read_messages"),
        "read": tool("read_messages", ["send"]),
        "other": tool("todo_list", ["send"]),
    }

    run = drain(acme, start(acme, steps))

    (message,) = step_of(acme, run.id, "read").output
    assert message["content"] == "for who adds up"


def test_what_is_read_fits_into_a_result(acme: World) -> None:
    a, b = talkers(acme, "a", "b")
    for _ in range(5):
        a.send("x" * 30_000, to="b")
    read = BUILTIN_TOOLS["read_messages"]

    found = [read.call({}, context=context_of(b, number)) for number in range(4)]

    assert [len(messages) for messages in found] == [2, 2, 1, 0]


def test_value_of_the_largest_size_can_be_read(acme: World) -> None:
    (a,) = talkers(acme, "a")
    value = "x" * (64 * 1024 - 2)
    BUILTIN_TOOLS["context_set"].call({"key": "k", "value": value}, context=context_of(a))

    found = BUILTIN_TOOLS["context_get"].call({"key": "k"}, context=context_of(a))

    assert isinstance(found, dict)
    assert found["value"] == value


def test_long_list_of_todos_leaves_out_what_does_not_fit(acme: World) -> None:
    (a,) = talkers(acme, "a")
    for number in range(40):
        given = {"text": "x" * 2_000}
        BUILTIN_TOOLS["todo_create"].call(given, context=context_of(a, number))

    found = BUILTIN_TOOLS["todo_list"].call({}, context=context_of(a))

    assert isinstance(found, dict)
    assert found["left_out"] == 40 - len(found["todos"]) > 0


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("send_message", {"content": 1, "wait_for_reply_seconds": 51}),
        ("read_messages", {"most": 0}),
        ("context_get", {"key": ""}),
        ("context_set", {"key": "k", "value": 1, "expected_version": 3}),
        ("todo_create", {"text": ""}),
        ("todo_update", {"id": 9, "completed": True}),
        ("subscribe_messages", {"condition": "1 +"}),
    ],
)
def test_nonsense_is_told_to_the_agent(acme: World, name: str, given: dict) -> None:
    (a,) = talkers(acme, "a")

    with pytest.raises(ToolFailedError):
        BUILTIN_TOOLS[name].call(given, context=context_of(a))
