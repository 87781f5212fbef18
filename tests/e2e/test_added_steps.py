"""Agents that add steps to their run, with real worker processes."""

from typing import Any

import pytest

from orchestrator.models import Attempt
from tests.e2e.stories import echo, ended, start, statuses
from tests.world import World

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.mark.parametrize("strategy", ["sequential", "levels", "adaptive"])
def test_added_steps_run_on_workers_and_are_added_once(acme: World, strategy: str) -> None:
    deeper = {"steps": {"dig": echo(value="deep")}}
    added: dict[str, Any] = {f"part{n}": echo(value=n) for n in range(12)}
    added["more"] = {**echo(value=deeper), "adds_steps": True}
    added["sum"] = {"agent": {"type": "aggregator"}, "needs": ["part0", "part11", "more"]}
    steps = {
        "plan": {**echo(value="${input.add}"), "adds_steps": True},
        "end": echo(value="${steps.plan.output}", needs=["plan"]),
    }
    given = {"add": {"steps": added, "output": "${steps.sum.output}"}}

    run = ended(acme, start(acme, steps, given=given, strategy=strategy))

    assert (run.status, run.added_steps) == ("completed", 15)
    assert run.output == {"part0": 0, "part11": 11, "more": "deep"}
    assert set(statuses(acme, run.id).values()) == {"completed"}
    with acme.scope():
        assert Attempt.objects.filter(agent_run__run=run).count() == 17 + 2
