"""Maps whose items are runs and loops of their own, with real worker processes."""

from typing import Any

import pytest

from orchestrator.models import Attempt, Run
from tests.e2e.stories import echo, ended, start
from tests.integration.orchestrator.test_engine_calls import published
from tests.world import World

ITEMS = 40
ADD = {"agent": {"type": "tool", "tool": "calculator"}}

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.mark.parametrize("strategy", ["levels", "adaptive"])
def test_items_that_are_runs_and_loops_give_their_outputs_in_order(
    acme: World, strategy: str
) -> None:
    inputs = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
    double = {**ADD, "arguments": {"expression": "${input.n} * 2"}}
    published(acme, {"double": double}, inputs=inputs)
    count = {**ADD, "arguments": {"expression": "${loop.previous.count.output ?? item} + 1"}}
    steps: dict[str, Any] = {
        "calls": {
            "workflow": "check",
            "input": {"n": "${item}"},
            "map": {"over": "${input.list}", "parallel": 8},
        },
        "loops": {
            "loop": {"steps": {"count": count}, "until": "loop.round == 2", "max_rounds": 2},
            "map": {"over": "${input.list}", "parallel": 8},
        },
    }
    steps["end"] = echo(
        value={"calls": "${steps.calls.output}", "loops": "${steps.loops.output}"},
        needs=["calls", "loops"],
    )

    run = ended(acme, start(acme, steps, given={"list": list(range(ITEMS))}, strategy=strategy))

    assert run.status == "completed"
    assert run.output["calls"] == [n * 2 for n in range(ITEMS)]
    assert run.output["loops"] == [n + 2 for n in range(ITEMS)]
    with acme.scope():
        children = Run.objects.filter(status="completed").exclude(id=run.id)
        assert children.count() == ITEMS
        assert Attempt.objects.filter(agent_run__run__in=children).count() == ITEMS
