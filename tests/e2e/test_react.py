"""Workers die while an agent goes from turn to turn: what it has, it keeps."""

from pathlib import Path
from uuid import UUID

import pytest

from orchestrator.models import LlmCall, ToolCall
from tests import workers
from tests.e2e.stories import ended, start
from tests.e2e.test_recovery import QUICK
from tests.eventually import eventually
from tests.world import World

ANSWER = "The sum of all is 42."
TOOL_TURNS = 4


def script() -> list[dict]:
    """Four turns that call tools, and the answer."""
    turns = [
        {
            "tool_calls": [
                {"name": "calculator", "arguments": {"expression": f"{turn} * {factor}"}}
                for factor in (2, 3)
            ]
        }
        for turn in range(1, TOOL_TURNS + 1)
    ]
    return [*turns, {"text": ANSWER}]


def answers(world: World, run_id: UUID) -> int:
    with world.scope():
        return LlmCall.objects.filter(run_id=run_id, status="closed").count()


@pytest.mark.usefixtures("live_db")
def test_agent_goes_on_from_turn_to_turn_while_its_workers_are_killed(
    acme: World, log_dir: Path
) -> None:
    agent = {"type": "react", "provider": "simulated", "model": "sim", "tools": ["calculator"]}
    parameters = {"script": script(), "latency": 0.5}
    step = {"agent": agent, "prompt": "Add it all up.", "parameters": parameters}
    with workers.control("control-r", log_dir, **QUICK):
        run_id = start(acme, {"a": step})
        for killed in range(1, 4):
            with workers.agents(f"victim-{killed}", log_dir, **QUICK) as victim:
                eventually(lambda: answers(acme, run_id) > killed)  # noqa: B023 - called at once
                victim.kill()
        with workers.agents("heir", log_dir, **QUICK):
            run = ended(acme, run_id)

    assert (run.status, run.output) == ("completed", ANSWER)
    with acme.scope():
        turns = LlmCall.objects.filter(run=run, status="closed").order_by("turn")
        assert list(turns.values_list("turn", flat=True)) == [1, 2, 3, 4, 5]
        assert turns.values("attempt").distinct().count() > 1
        finished = ToolCall.objects.filter(run=run, status="finished")
        assert finished.values("turn", "call").distinct().count() == finished.count() == 8
