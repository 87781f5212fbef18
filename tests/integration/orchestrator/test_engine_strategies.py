"""What starts when: strategies, conditions, joins and windows, against the real database."""

from typing import Any
from uuid import UUID

import pytest

from orchestrator.models import AgentRun, RunEvent
from orchestrator.services import agent_runs
from orchestrator.services.advance import advance
from tests.e2e.stories import echo, start, statuses
from tests.engine_driver import drain, queued, step_of
from tests.world import World


def names(agents: list[AgentRun]) -> list[str]:
    return [agent_run.step for agent_run in agents]


def execute(world: World, run_id: UUID, *steps: str) -> None:
    for step in steps:
        agent_runs.execute(world.tenant.id, step_of(world, run_id, step).id, worker="w1")


def broken(**fields: Any) -> dict[str, Any]:
    """A tool step that fails at once."""
    calculator = {"agent": {"type": "tool", "tool": "calculator"}}
    return {**calculator, "arguments": {"expression": "1/0"}, **fields}


def test_adaptive_step_starts_the_moment_its_own_needs_have_completed(acme: World) -> None:
    steps = {
        "slow": echo(value=1),
        "quick": echo(value=2),
        "after_quick": echo(value=3, needs=["quick"]),
        "both": echo(value=4, needs=["slow", "quick"]),
    }
    run_id = start(acme, steps, strategy="adaptive")
    advance(acme.tenant.id, run_id)

    execute(acme, run_id, "quick")

    assert names(queued(acme, run_id)) == ["slow", "after_quick"]
    execute(acme, run_id, "slow")
    assert names(queued(acme, run_id)) == ["after_quick", "both"]


def test_adaptive_run_ends_without_any_sweep(acme: World) -> None:
    steps: dict[str, Any] = {"a": echo(value=1)}
    steps |= {f"b{n}": echo(value=n, needs=["a"]) for n in range(5)}
    steps |= {f"c{n}": echo(value=n, needs=[f"b{m}" for m in range(5)]) for n in range(5)}
    run_id = start(acme, steps, strategy="adaptive")

    run = drain(acme, run_id)

    assert (run.status, run.status_reason) == ("completed", "11 of 11 steps completed")


def test_adaptive_run_keeps_to_its_window(acme: World) -> None:
    steps: dict[str, Any] = {"a": echo(value=1)}
    steps |= {f"b{n}": {**echo(value=n, needs=["a"]), "priority": n} for n in range(6)}
    run_id = start(acme, steps, strategy="adaptive", max_parallel=2)
    advance(acme.tenant.id, run_id)
    execute(acme, run_id, "a")

    assert names(queued(acme, run_id)) == ["b4", "b5"]
    execute(acme, run_id, "b5")
    assert names(queued(acme, run_id)) == ["b3", "b4"]
    assert drain(acme, run_id).status == "completed"


@pytest.mark.parametrize("strategy", ["levels", "sequential", "adaptive"])
def test_false_condition_skips_a_branch_and_the_join_goes_on(acme: World, strategy: str) -> None:
    steps = {
        "triage": echo(value={"route": "ship"}),
        "polish": {
            **echo(value="better", needs=["triage"]),
            "when": 'steps.triage.output.route == "polish"',
        },
        "polished": echo(value="even better", needs=["polish"]),
        "ship": echo(value="${steps.polish.output ?? 'as it is'}", needs=["triage", "polish"]),
    }
    run_id = start(acme, steps, strategy=strategy)

    run = drain(acme, run_id)

    assert statuses(acme, run_id) == {
        "triage": "completed",
        "polish": "skipped",
        "polished": "skipped",
        "ship": "completed",
    }
    assert run.status == "completed"
    assert step_of(acme, run_id, "polish").status_reason == (
        'Its condition `steps.triage.output.route == "polish"` is false'
    )
    assert step_of(acme, run_id, "ship").output == "as it is"


@pytest.mark.parametrize("strategy", ["levels", "adaptive"])
def test_condition_that_raises_fails_its_step_with_the_reason(acme: World, strategy: str) -> None:
    steps = {
        "a": echo(value={"n": 1}),
        "b": {**echo(value=2, needs=["a"]), "when": "steps.a.output.missing > 1"},
    }
    run_id = start(acme, steps, strategy=strategy)

    run = drain(acme, run_id)

    assert run.status == "failed"
    assert "missing" in step_of(acme, run_id, "b").status_reason


def test_join_any_starts_at_the_first_completed_need(acme: World) -> None:
    steps = {
        "a": echo(value=1),
        "b": echo(value=2),
        "first": {**echo(value="go", needs=["a", "b"]), "join": "any"},
    }
    run_id = start(acme, steps, strategy="adaptive")
    advance(acme.tenant.id, run_id)

    execute(acme, run_id, "b")
    advance(acme.tenant.id, run_id)

    assert names(queued(acme, run_id)) == ["a", "first"]
    assert drain(acme, run_id).status == "completed"


@pytest.mark.parametrize("strategy", ["levels", "adaptive"])
def test_partial_run_skips_what_hangs_on_a_failure(acme: World, strategy: str) -> None:
    steps = {
        "bad": broken(),
        "good": echo(value=1),
        "lost": echo(value=2, needs=["bad"]),
        "both": echo(value=3, needs=["bad", "good"]),
        "end": echo(value=4, needs=["good"]),
    }
    run_id = start(
        acme, steps, strategy=strategy, failure={"mode": "partial", "max_failed_ratio": 0.9}
    )

    run = drain(acme, run_id)

    assert run.status == "partially_completed"
    assert statuses(acme, run_id) == {
        "bad": "failed",
        "good": "completed",
        "lost": "skipped",
        "both": "skipped",
        "end": "completed",
    }


@pytest.mark.parametrize("strategy", ["levels", "adaptive"])
def test_fail_fast_calls_back_what_has_not_begun(acme: World, strategy: str) -> None:
    steps = {"bad": broken(), "idle": echo(value=1), "later": echo(value=2, needs=["idle"])}
    run_id = start(acme, steps, strategy=strategy)
    advance(acme.tenant.id, run_id)

    execute(acme, run_id, "bad")
    advance(acme.tenant.id, run_id)

    assert statuses(acme, run_id) == {"bad": "failed", "idle": "cancelled", "later": "skipped"}


def test_history_tells_each_step_of_the_way(acme: World) -> None:
    run_id = start(acme, {"a": echo(value=1)}, strategy="adaptive")
    drain(acme, run_id)

    with acme.scope():
        told = list(RunEvent.objects.filter(run_id=run_id).order_by("id").values_list("type"))
    assert [type_ for (type_,) in told] == [
        "run.created",
        "run.started",
        "agent.queued",
        "agent.running",
        "agent.completed",
        "run.completed",
    ]
