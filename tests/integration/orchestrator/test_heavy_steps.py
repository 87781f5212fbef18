"""Steps with tools that take a processor for themselves, and the queue of their messages."""

from typing import Any
from uuid import UUID

import pytest

from orchestrator.core.hints import AgentHint, RunHints
from orchestrator.dispatch import canvas
from orchestrator.dispatch.routing import agent_queue
from orchestrator.models import AgentRun
from orchestrator.services.advance import advance
from orchestrator.services.runs import start_run
from tests.engine_driver import drain_all
from tests.run_rows import published
from tests.world import World

DIFF = {"type": "tool", "tool": "text_diff", "arguments": {"before": "a", "after": "b"}}
ECHO = {"type": "tool", "tool": "echo", "arguments": {"value": 1}}
SPEC: dict[str, Any] = {
    "name": "compare",
    "steps": {
        "light": {"agent": ECHO},
        "heavy": {"agent": DIFF},
        "each": {"agent": DIFF, "map": {"over": "${input.items}"}},
        "round": {
            "loop": {
                "steps": {"again": {"agent": DIFF}, "say": {"agent": ECHO}},
                "until": "steps.again.output.added == 1",
                "max_rounds": 2,
            }
        },
    },
}


@pytest.fixture
def queues(monkeypatch: pytest.MonkeyPatch) -> dict[UUID, str]:
    """By agent run, where its first message went."""
    found: dict[UUID, str] = {}
    agent = canvas._agent

    def seen(run: RunHints, hint: AgentHint) -> Any:
        found.setdefault(hint.agent_run_id, agent_queue(hint.priority))
        return agent(run, hint)

    monkeypatch.setattr(canvas, "_agent", seen)
    return found


@pytest.mark.parametrize("strategy", ["levels", "adaptive"])
def test_heavy_steps_go_to_a_queue_of_their_own(
    acme: World, queues: dict[UUID, str], strategy: str
) -> None:
    version = published(acme, {**SPEC, "strategy": strategy})
    with acme.scope():
        run = start_run(workflow=version.workflow, version=version, input={"items": [1, 2]})
    advance(acme.tenant.id, run.id)
    ended = drain_all(acme, run.id)

    assert ended.status == "completed"
    with acme.scope():
        steps = dict(AgentRun.objects.filter(run=run, id__in=queues).values_list("step", "id"))
    assert {step: queues[row] for step, row in steps.items()} == {
        "light": "agents",
        "heavy": "tools.cpu",
        "each[0]": "tools.cpu",
        "each[1]": "tools.cpu",
        "round[0].again": "tools.cpu",
        "round[0].say": "agents",
    }
