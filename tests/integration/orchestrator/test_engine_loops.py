"""Loops, against the real database."""

from typing import Any

import pytest

from orchestrator.models import AgentRun
from orchestrator.services.advance import advance
from orchestrator.services.control import cancel_run, retry_run
from tests.e2e.stories import echo, start
from tests.engine_driver import drain, queued, run_of, step_of
from tests.integration.orchestrator.test_engine_control import act
from tests.integration.orchestrator.test_engine_strategies import broken
from tests.world import World

STRATEGIES = pytest.mark.parametrize("strategy", ["levels", "adaptive"])


def counting(until: str, **fields: Any) -> dict[str, Any]:
    """A loop whose `count` is 1 in its first round, and one more in each that follows."""
    add = {"agent": {"type": "tool", "tool": "calculator"}}
    given = {"max_rounds": 5, **fields}
    steps = {
        "count": {**add, "arguments": {"expression": "${loop.previous.count.output ?? 0} + 1"}},
        "seen": echo(
            value={"n": "${steps.count.output}", "round": "${loop.round}"}, needs=["count"]
        ),
    }
    return {"loop": {"steps": steps, "until": until, "output": "${steps.seen.output}", **given}}


@STRATEGIES
def test_loop_repeats_until_its_condition_holds(acme: World, strategy: str) -> None:
    steps = {
        "base": echo(value=1),
        "polish": {**counting("steps.count.output >= 3"), "needs": ["base"]},
        "end": echo(value="${steps.polish.output}", needs=["polish"]),
    }
    run_id = start(acme, steps, strategy=strategy)

    run = drain(acme, run_id)

    assert (run.status, run.status_reason) == ("completed", "3 of 3 steps completed")
    assert run.output == {"n": 3, "round": 3}


@STRATEGIES
def test_loop_beside_a_step_of_its_level_keeps_to_its_own_needs(acme: World, strategy: str) -> None:
    steps = {"beside": echo(value=1), "polish": counting("steps.count.output >= 2")}
    run_id = start(acme, steps, strategy=strategy)
    advance(acme.tenant.id, run_id)

    assert {each.step for each in queued(acme, run_id)} == {"beside", "polish[0].count"}
    assert drain(acme, run_id).status == "completed"


@STRATEGIES
def test_loop_that_never_agrees_fails_with_the_reason(acme: World, strategy: str) -> None:
    run_id = start(acme, {"polish": counting("false", max_rounds=2)}, strategy=strategy)

    run = drain(acme, run_id)

    assert run.status == "failed"
    assert "did not hold within 2 rounds" in run.status_reason


def test_loop_may_go_on_when_it_is_exhausted(acme: World) -> None:
    loop = counting("false", max_rounds=2, on_exhausted="continue")
    run_id = start(acme, {"polish": loop})

    run = drain(acme, run_id)

    assert (run.status, run.output) == ("completed", {"n": 2, "round": 2})


def test_condition_that_raises_fails_the_loop(acme: World) -> None:
    run_id = start(acme, {"polish": counting("steps.count.output.missing == 1")})

    run = drain(acme, run_id)

    assert run.status == "failed"
    assert "missing" in run.status_reason


def test_step_that_fails_ends_the_loop_with_its_reason(acme: World) -> None:
    loop = {"steps": {"bad": broken(), "good": echo(value=1)}, "until": "true", "max_rounds": 3}
    run_id = start(acme, {"polish": {"loop": loop}})

    run = drain(acme, run_id)

    assert run.status == "failed"
    assert "Round 1: `bad` failed" in run.status_reason


def test_loop_sees_the_steps_before_it_and_its_own_branches(acme: World) -> None:
    inner = {
        "write": echo(value="${steps.base.output}"),
        "fix": {**echo(value="fixed", needs=["write"]), "when": "steps.write.output == 'good'"},
    }
    loop = {
        "steps": inner,
        "until": "steps.write.output == steps.base.output",
        "max_rounds": 2,
        "output": "${steps.fix.output ?? steps.write.output}",
    }
    steps = {"base": echo(value="bad"), "polish": {"needs": ["base"], "loop": loop}}
    run_id = start(acme, steps, strategy="adaptive")

    run = drain(acme, run_id)

    assert (run.status, run.output) == ("completed", "bad")
    assert step_of(acme, run_id, "polish[0].fix").status == "skipped"


def test_map_in_a_loop_gathers_its_items(acme: World) -> None:
    each = {**echo(value="${item}"), "map": {"over": "${input.list}"}}
    loop = {"steps": {"each": each}, "until": "size(steps.each.output) == 2", "max_rounds": 1}
    run_id = start(acme, {"polish": {"loop": loop}}, given={"list": [1, 2]})

    run = drain(acme, run_id)

    assert (run.status, run.output) == ("completed", [1, 2])


def test_cancelled_run_ends_its_loops(acme: World) -> None:
    run_id = start(acme, {"polish": counting("false")})
    advance(acme.tenant.id, run_id)

    act(acme, run_id, cancel_run)
    advance(acme.tenant.id, run_id)

    assert run_of(acme, run_id).status == "cancelled"
    with acme.scope():
        assert not AgentRun.objects.filter(run_id=run_id).exclude(status="cancelled").exists()


def test_retried_loop_goes_on_with_the_round_that_failed(acme: World) -> None:
    loop = {
        "steps": {"good": echo(value=1), "bad": broken(needs=["good"])},
        "until": "true",
        "max_rounds": 3,
    }
    run_id = start(acme, {"polish": {"loop": loop}})
    drain(acme, run_id)

    act(acme, run_id, retry_run)
    drain(acme, run_id)

    assert step_of(acme, run_id, "polish[0].good").attempt == 1
    assert step_of(acme, run_id, "polish[0].bad").attempt == 2
