"""Agents on different workers talk to each other, whichever of them dies meanwhile."""

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from orchestrator.models import AgentMessage, AgentRun
from tests import workers
from tests.e2e.deaths import QUICK
from tests.e2e.stories import ended, start
from tests.eventually import eventually
from tests.world import World


def tool(name: str, needs: list[str] | None = None, **arguments: Any) -> dict[str, Any]:
    step: dict[str, Any] = {"agent": {"type": "tool", "tool": name}, "arguments": arguments}
    return {**step, "timeout": "60s", **({"needs": needs} if needs else {})}


def talker(*turns: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """An agent that calls one tool in each turn, and then has done."""
    script = [{"tool_calls": [{"name": name, "arguments": given}]} for name, given in turns]
    tools = sorted({name for name, _ in turns})
    agent = {"type": "react", "provider": "simulated", "model": "sim", "tools": tools}
    return {
        "agent": agent,
        "prompt": "Talk.",
        "timeout": "60s",
        "parameters": {"script": [*script, {"text": "done"}]},
    }


@pytest.mark.usefixtures("live_db")
def test_agents_on_two_workers_ask_and_answer(acme: World, log_dir: Path) -> None:
    steps = {
        "asks": tool("send_message", content="How much?", to="hears", wait_for_reply_seconds=40),
        "hears": tool("read_messages", wait_seconds=40),
        "answers": tool(
            "send_message", ["hears"], content=42, reply_to="${steps.hears.output.0.id}"
        ),
        # No reply, so nothing that is waited for.
        "says": talker(("send_message", {"content": "Hello.", "to": "asks"})),
    }
    # A worker has place for one: so they are apart, or they would wait for ever.
    with (
        workers.control("control-m", log_dir, **QUICK),
        workers.agents("one", log_dir, concurrency=1, **QUICK),
        workers.agents("two", log_dir, concurrency=1, **QUICK),
    ):
        output = "${steps.asks.output.replies.0.content}"
        run = ended(acme, start(acme, steps, strategy="adaptive", output=output), within=90)

    assert (run.status, run.output) == ("completed", 42)
    with acme.scope():
        sent = dict(AgentMessage.objects.values_list("sender__step", "content").filter(run=run))
        on = dict(AgentRun.objects.values_list("step", "worker").filter(run=run))
    assert sent == {"asks": "How much?", "answers": 42, "says": "Hello."}
    assert on["asks"] != on["hears"]


@pytest.mark.usefixtures("live_db")
def test_sender_that_dies_between_storing_and_ringing_sends_once(
    acme: World, log_dir: Path
) -> None:
    steps = {
        "reads": tool("read_messages", wait_seconds=30),
        "sends": tool("send_message", content="once", to="reads"),
        "again": tool("read_messages", ["sends"], most=5),
    }
    with workers.control("control-m2", log_dir, **QUICK):
        with workers.agents("victim", log_dir, MUSTER_CRASH_POINTS="before_ring=1", **QUICK):
            run_id = start(acme, steps, strategy="adaptive")
            eventually(lambda: _sent(acme, run_id) == 1, within=30)
        with workers.agents("heir", log_dir, **QUICK):
            run = ended(acme, run_id, within=90)

    assert run.status == "completed"
    with acme.scope():
        reads = AgentRun.objects.get(run_id=run_id, step="reads")
        sends = AgentRun.objects.get(run_id=run_id, step="sends")
    assert sends.attempt > 1
    assert [message["content"] for message in reads.output] == ["once"]
    assert _sent(acme, run_id) == 1


def _sent(world: World, run_id: UUID) -> int:
    with world.scope():
        return AgentMessage.objects.filter(run_id=run_id).count()
