"""Workers die while an agent goes from turn to turn: what it has, it keeps."""

from functools import partial
from pathlib import Path
from uuid import UUID

import pytest

from orchestrator.models import LlmCall
from tests.e2e.deaths import answered_turns, finished_tools, outlived
from tests.e2e.stories import start
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


def has_answers(world: World, run_id: UUID, *, more_than: int) -> bool:
    with world.scope():
        return LlmCall.objects.filter(run_id=run_id, status="closed").count() > more_than


@pytest.mark.usefixtures("live_db")
def test_agent_goes_on_from_turn_to_turn_while_its_workers_are_killed(
    acme: World, log_dir: Path
) -> None:
    agent = {"type": "react", "provider": "simulated", "model": "sim", "tools": ["calculator"]}
    parameters = {"script": script(), "latency": 0.5}
    run_id = start(
        acme, {"a": {"agent": agent, "prompt": "Add it all up.", "parameters": parameters}}
    )
    after = [partial(has_answers, acme, run_id, more_than=count) for count in (1, 2, 3)]

    run = outlived(acme, run_id, log_dir, deaths=after)

    assert (run.status, run.output) == ("completed", ANSWER)
    assert answered_turns(acme, run) == {"a": [1, 2, 3, 4, 5]}
    assert finished_tools(acme, run) == 8
    with acme.scope():
        assert LlmCall.objects.filter(run=run).values("attempt").distinct().count() > 1
