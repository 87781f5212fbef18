"""Maps, against the real database."""

from typing import Any

import pytest

from orchestrator.models import AgentRun
from orchestrator.services import agent_runs
from orchestrator.services.advance import advance
from orchestrator.services.control import cancel_run, retry_run
from tests.e2e.stories import echo, start
from tests.engine_driver import drain, queued, run_of, step_of
from tests.integration.orchestrator.test_engine_control import act
from tests.world import World

STRATEGIES = pytest.mark.parametrize("strategy", ["levels", "adaptive"])


def mapped(over: str, value: Any = "${item}", **fields: Any) -> dict[str, Any]:
    given = {
        name: fields.pop(name)
        for name in ("max_items", "parallel", "allow_failed")
        if name in fields
    }
    return {**echo(value=value), "map": {"over": over, **given}, **fields}


def divided(over: str, **given: Any) -> dict[str, Any]:
    """Items that are 0 fail."""
    calculator = {"agent": {"type": "tool", "tool": "calculator"}}
    return {**calculator, "arguments": {"expression": "1/${item}"}, "map": {"over": over, **given}}


def last(**fields: Any) -> dict[str, Any]:
    return echo(value="${steps.each.output}", needs=["each"], **fields)


@STRATEGIES
def test_map_gives_a_list_in_the_order_of_its_items(acme: World, strategy: str) -> None:
    steps = {
        "list": echo(value=["a", {"b": 1}, None]),
        "each": mapped("${steps.list.output}", {"i": "${index}", "x": "${item}"}, needs=["list"]),
        "end": last(),
    }
    run_id = start(acme, steps, strategy=strategy)

    run = drain(acme, run_id)

    assert (run.status, run.status_reason) == ("completed", "3 of 3 steps completed")
    assert run.output == [{"i": 0, "x": "a"}, {"i": 1, "x": {"b": 1}}, {"i": 2, "x": None}]


@STRATEGIES
def test_map_over_nothing_gives_an_empty_list(acme: World, strategy: str) -> None:
    run_id = start(
        acme,
        {"each": mapped("${input.list}"), "end": last()},
        given={"list": []},
        strategy=strategy,
    )

    run = drain(acme, run_id)

    assert (run.status, run.output) == ("completed", [])


@STRATEGIES
@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("text", "gives a value of type string where a map needs a list"),
        ([1, 2, 3], "gives 3 items; at most 2 are allowed"),
    ],
)
def test_list_that_cannot_be_gone_over_fails_the_step(
    acme: World, given: Any, told: str, strategy: str
) -> None:
    steps = {"each": mapped("${input.list}", max_items=2), "end": last()}
    run_id = start(acme, steps, given={"list": given}, strategy=strategy)

    run = drain(acme, run_id)

    assert run.status == "failed"
    assert told in run.status_reason


@STRATEGIES
def test_failed_items_are_null_as_far_as_the_map_accepts_them(acme: World, strategy: str) -> None:
    steps = {"each": divided("${input.list}", allow_failed=0.5), "end": last()}
    run_id = start(acme, steps, given={"list": [1, 0, 2]}, strategy=strategy)

    run = drain(acme, run_id)

    assert run.status == "completed"
    assert [value is None for value in run.output] == [False, True, False]


@STRATEGIES
def test_more_failed_items_than_accepted_fail_the_map_with_the_reason(
    acme: World, strategy: str
) -> None:
    run_id = start(
        acme, {"each": divided("${input.list}")}, given={"list": [1, 0, 2]}, strategy=strategy
    )

    run = drain(acme, run_id)

    assert run.status == "failed"
    assert "1 of 3 items failed" in run.status_reason
    assert "item 1 failed" in run.status_reason


@STRATEGIES
def test_map_keeps_to_its_parallel(acme: World, strategy: str) -> None:
    steps = {"each": mapped("${input.list}", parallel=2), "end": last()}
    run_id = start(acme, steps, given={"list": list(range(5))}, strategy=strategy)
    advance(acme.tenant.id, run_id)

    assert [a.item_index for a in queued(acme, run_id)] == [0, 1]
    agent_runs.execute(acme.tenant.id, step_of(acme, run_id, "each[1]").id, worker="w1")
    assert sorted(a.item_index or 0 for a in queued(acme, run_id)) == [0, 2]
    assert drain(acme, run_id).output == [0, 1, 2, 3, 4]


@STRATEGIES
def test_map_shares_the_window_of_its_run(acme: World, strategy: str) -> None:
    steps = {"each": mapped("${input.list}"), "other": echo(value=1), "end": last()}
    run_id = start(acme, steps, given={"list": list(range(6))}, strategy=strategy, max_parallel=3)
    advance(acme.tenant.id, run_id)

    assert len(queued(acme, run_id)) == 3
    assert drain(acme, run_id).status == "completed"


@STRATEGIES
def test_cancelled_run_ends_its_maps(acme: World, strategy: str) -> None:
    steps = {"each": mapped("${input.list}", parallel=1), "end": last()}
    run_id = start(acme, steps, given={"list": [1, 2, 3]}, strategy=strategy)
    advance(acme.tenant.id, run_id)

    act(acme, run_id, cancel_run)
    advance(acme.tenant.id, run_id)

    assert run_of(acme, run_id).status == "cancelled"
    with acme.scope():
        left = AgentRun.objects.filter(run_id=run_id).exclude(status="cancelled")
        assert not left.exists()


@STRATEGIES
def test_retried_map_runs_only_the_items_that_failed(acme: World, strategy: str) -> None:
    steps = {"each": divided("${input.list}"), "end": last()}
    run_id = start(acme, steps, given={"list": [1, 0, 2]}, strategy=strategy)
    drain(acme, run_id)

    act(acme, run_id, retry_run)
    run = drain(acme, run_id)

    assert run.status == "failed"
    tried = {n: step_of(acme, run_id, f"each[{n}]").attempt for n in range(3)}
    assert tried == {0: 1, 1: 2, 2: 1}


def test_map_behind_a_false_condition_is_skipped_as_a_whole(acme: World) -> None:
    steps = {"each": mapped("${input.list}", when="size(input.list) > 3")}
    run_id = start(acme, steps, given={"list": [1]}, strategy="adaptive")

    drain(acme, run_id)

    assert step_of(acme, run_id, "each").status == "skipped"
