"""How many runs of a tenant and of a workflow are under way at a time, and whose turn is next."""

from typing import Any
from uuid import UUID

import pytest

from orchestrator.models import Run, Workflow
from orchestrator.services.advance import advance
from orchestrator.services.control import cancel_run, pause_run, resume_run
from orchestrator.services.runs import start_run
from orchestrator.services.sweep import sweep
from orchestrator.services.workflows import publish_spec
from tenants.models import Tenant
from tests.e2e.stories import echo
from tests.engine_driver import drain, run_of
from tests.integration.orchestrator.test_engine_control import act
from tests.world import World


def published(world: World, *, name: str = "story", **header: Any) -> Workflow:
    spec = {"muster": 1, "name": name, "steps": {"a": echo(value=1)}, **header}
    with world.scope():
        return publish_spec(project=world.project, spec=spec).workflow


def begin(world: World, workflow: Workflow, **options: Any) -> UUID:
    with world.scope():
        run = start_run(workflow=workflow, input={}, **options)
    advance(world.tenant.id, run.id)
    return run.id


def limit_runs(world: World, most: int) -> None:
    Tenant.objects.using("system").filter(id=world.tenant.id).update(max_runs=most)


def states(world: World, runs: list[UUID]) -> list[str]:
    return [run_of(world, run_id).status for run_id in runs]


def asked_for(world: World) -> list[UUID]:
    """Runs that somebody has asked `advance` for."""
    with world.scope():
        return list(Run.objects.filter(advance_wanted=True).values_list("id", flat=True))


def test_runs_beyond_what_a_workflow_allows_wait_for_their_turn(acme: World) -> None:
    workflow = published(acme, max_runs=2)
    other = published(acme, name="other")

    runs = [begin(acme, workflow) for _ in range(3)]
    free = begin(acme, other)

    assert states(acme, [*runs, free]) == ["running", "running", "pending", "running"]
    assert "waits for its turn" in run_of(acme, runs[2]).status_reason


def test_run_that_ends_has_the_next_one_begin(acme: World) -> None:
    workflow = published(acme, max_runs=1)
    first, second, third = (begin(acme, workflow) for _ in range(3))

    drain(acme, first)

    assert asked_for(acme) == [second]
    advance(acme.tenant.id, second)
    assert states(acme, [second, third]) == ["running", "pending"]
    assert run_of(acme, second).status_reason == ""
    assert drain(acme, second).status == drain(acme, third).status == "completed"


def test_most_urgent_run_has_the_next_turn(acme: World) -> None:
    limit_runs(acme, 1)
    workflow = published(acme)
    first = begin(acme, workflow)
    begin(acme, workflow)
    urgent = begin(acme, workflow, priority=9)

    drain(acme, first)

    assert asked_for(acme) == [urgent]


def test_newcomer_does_not_take_the_turn_of_one_that_waits(acme: World) -> None:
    limit_runs(acme, 1)
    workflow = published(acme)
    first, second = begin(acme, workflow), begin(acme, workflow)
    drain(acme, first)

    newcomer = begin(acme, workflow)

    assert states(acme, [second, newcomer]) == ["pending", "pending"]
    advance(acme.tenant.id, second)
    assert states(acme, [second, newcomer]) == ["running", "pending"]


def test_run_that_waits_for_others_of_its_workflow_keeps_no_other_waiting(acme: World) -> None:
    limit_runs(acme, 2)
    narrow = published(acme, max_runs=1)
    begin(acme, narrow)
    blocked = begin(acme, narrow)

    other = begin(acme, published(acme, name="other"))

    assert states(acme, [blocked, other]) == ["pending", "running"]


def test_sweeper_finds_a_turn_that_nobody_told_of(acme: World) -> None:
    limit_runs(acme, 1)
    workflow = published(acme)
    first, second = begin(acme, workflow), begin(acme, workflow)
    sweep()
    assert asked_for(acme) == []
    drain(acme, first)
    with acme.scope():
        Run.objects.update(advance_wanted=False)

    sweep()

    assert asked_for(acme) == [second]


def test_waiting_run_can_be_cancelled(acme: World) -> None:
    limit_runs(acme, 1)
    workflow = published(acme)
    begin(acme, workflow)
    waiting = begin(acme, workflow)

    act(acme, waiting, cancel_run)
    advance(acme.tenant.id, waiting)

    assert states(acme, [waiting]) == ["cancelled"]


@pytest.mark.parametrize("most", [1, 2])
def test_sub_workflow_has_the_turn_of_the_run_above_it(acme: World, most: int) -> None:
    limit_runs(acme, most)
    published(acme, name="inner", max_runs=1)
    with acme.scope():
        spec = {"muster": 1, "name": "outer", "steps": {"call": {"workflow": "inner"}}}
        outer = publish_spec(project=acme.project, spec=spec).workflow
    run_id = begin(acme, outer)

    with acme.scope():
        child = Run.objects.get(parent_agent_run_id__isnull=False)
    assert drain(acme, child.id).status == "completed"
    assert drain(acme, run_id).status == "completed"


def test_resuming_does_not_jump_the_queue(acme: World) -> None:
    limit_runs(acme, 1)
    workflow = published(acme)
    begin(acme, workflow)
    waiting = begin(acme, workflow)

    act(acme, waiting, pause_run)
    act(acme, waiting, resume_run)
    advance(acme.tenant.id, waiting)

    assert states(acme, [waiting]) == ["pending"]


def test_run_that_began_after_a_pause_is_found_by_the_sweeper(acme: World) -> None:
    limit_runs(acme, 1)
    workflow = published(acme)
    first, second = begin(acme, workflow), begin(acme, workflow)
    act(acme, second, pause_run)
    act(acme, second, resume_run)
    drain(acme, first)
    advance(acme.tenant.id, second)

    with acme.scope():
        run = Run.objects.get(id=second)
        assert (run.status, run.waits_for_turn) == ("running", False)


def test_many_that_wait_for_their_workflow_keep_no_other_waiting(acme: World) -> None:
    limit_runs(acme, 2)
    narrow = published(acme, max_runs=1)
    begin(acme, narrow)
    other = begin(acme, published(acme, name="other"))
    for _ in range(3):
        begin(acme, narrow)
    last = begin(acme, published(acme, name="last"))
    assert states(acme, [last]) == ["pending"]

    drain(acme, other)

    assert asked_for(acme) == [last]
