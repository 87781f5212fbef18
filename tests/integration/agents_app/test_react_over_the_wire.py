"""Agents with tools over both protocols, in conversation with a server written elsewhere."""

import pytest
from llmock.scenarios import Reply
from llmock.scenarios import ToolCall as Scripted

from agents_app.core.agent import AgentConfig, Ports
from agents_app.core.errors import AgentLimitError
from agents_app.runtime import run_agent
from agents_app.tool_threads import ToolThreads
from agents_app.tools.builtin import BUILTIN_TOOLS
from tests.integration.agents_app.providers import client

SCHEMA = {
    "type": "object",
    "properties": {"sum": {"type": "integer"}},
    "required": ["sum"],
    "additionalProperties": False,
}


@pytest.fixture(params=["openai", "anthropic", "xai"])
def kind(request):
    return request.param


@pytest.fixture
def run(kind, llmock_server):
    def run(*turns, **changes):
        llmock_server.state.scenarios.add(*turns)
        model = client(kind, llmock_server.base_url(kind))
        config = AgentConfig(
            type="react",
            provider=kind,
            model="mock-model",
            prompt="Add it all up.",
            **{"tools": ["calculator", "echo"], **changes},
        )
        ports = Ports(model=model, tools=BUILTIN_TOOLS, hands=ToolThreads())
        return run_agent(config, inputs={}, ports=ports)

    return run


def calculates(*expressions):
    calls = (Scripted("calculator", {"expression": each}) for each in expressions)
    return Reply(tool_calls=tuple(calls))


def test_agent_goes_over_five_turns(run):
    turns = [calculates(f"{turn} + 1", f"{turn} / 0") for turn in range(4)]

    assert run(*turns, Reply(text="It is 10.")).output == "It is 10."


def test_agent_gets_over_a_tool_that_it_does_not_have(run):
    unknown = Reply(tool_calls=(Scripted("shell", {"command": "ls"}),))

    assert run(unknown, Reply(text="Then without.")).output == "Then without."


def test_agent_is_shown_what_does_not_fit_its_schema(run):
    turns = [calculates("1 + 1"), Reply(text='{"sum": "two"}'), Reply(text='{"sum": 2}')]

    assert run(*turns, output_schema=SCHEMA).output == {"sum": 2}


def test_agent_in_a_loop_is_stopped(run):
    with pytest.raises(AgentLimitError) as caught:
        run(*[calculates("1 + 1")] * 9)

    assert caught.value.code == "repeated_calls"
