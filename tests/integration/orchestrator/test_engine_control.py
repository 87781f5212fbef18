"""Cancel, pause, resume and retry, against the real database."""

from datetime import timedelta
from uuid import UUID

import pytest

from orchestrator.execution.claims import claim
from orchestrator.execution.errors import RunStoppingError
from orchestrator.execution.gateway import GuardedClient
from orchestrator.execution.leases import Lease, LeaseKeeper
from orchestrator.models import Run
from orchestrator.services import agent_runs
from orchestrator.services.advance import advance
from orchestrator.services.control import (
    RunStateError,
    cancel_run,
    pause_run,
    resume_run,
    retry_run,
)
from orchestrator.services.sweep import sweep
from tests.e2e.stories import echo, simulated, start, statuses
from tests.engine_driver import drain, queued, run_of, step_of
from tests.integration.orchestrator.test_engine import request
from tests.integration.orchestrator.test_engine_strategies import broken, execute
from tests.world import World

LEASE = timedelta(seconds=30)


def act(world: World, run_id: UUID, action: object) -> None:
    with world.scope():
        action(Run.objects.get(id=run_id))  # type: ignore[operator]


@pytest.mark.parametrize("strategy", ["levels", "adaptive"])
def test_cancelled_run_calls_back_what_has_not_begun(acme: World, strategy: str) -> None:
    run_id = start(acme, {"a": echo(value=1), "b": echo(value=2, needs=["a"])}, strategy=strategy)
    advance(acme.tenant.id, run_id)

    act(acme, run_id, cancel_run)
    run = drain(acme, run_id)

    assert run.status == "cancelled"
    assert run.status_reason == "Cancelled by the system"
    assert statuses(acme, run_id) == {"a": "cancelled", "b": "cancelled"}


def test_cancelled_run_waits_for_what_is_at_work_and_charges_it(acme: World) -> None:
    run_id = start(acme, {"a": simulated("x")})
    advance(acme.tenant.id, run_id)
    taken = claim(acme.tenant.id, step_of(acme, run_id, "a").id, worker="w1", lease=LEASE)
    assert taken
    GuardedClient(taken, Lease(taken.agent_run_id, 1), role="").complete(request())

    act(acme, run_id, cancel_run)
    advance(acme.tenant.id, run_id)

    assert run_of(acme, run_id).status == "running"
    agent_runs._finish(taken, agent_runs._Result(output="x"), Lease(taken.agent_run_id, 1))
    advance(acme.tenant.id, run_id)
    run = run_of(acme, run_id)
    assert run.status == "cancelled"
    assert step_of(acme, run_id, "a").llm_calls == 1


def test_nothing_is_asked_once_the_run_is_to_end(acme: World) -> None:
    run_id = start(acme, {"a": simulated("x")})
    advance(acme.tenant.id, run_id)
    taken = claim(acme.tenant.id, step_of(acme, run_id, "a").id, worker="w1", lease=LEASE)
    assert taken
    act(acme, run_id, cancel_run)

    with pytest.raises(RunStoppingError):
        GuardedClient(taken, Lease(taken.agent_run_id, 1), role="").complete(request())


def test_worker_learns_with_its_next_renewal_that_the_run_is_to_end(acme: World) -> None:
    run_id = start(acme, {"a": simulated("x")})
    advance(acme.tenant.id, run_id)
    taken = claim(acme.tenant.id, step_of(acme, run_id, "a").id, worker="w1", lease=LEASE)
    assert taken
    act(acme, run_id, cancel_run)
    keeper = LeaseKeeper("w1", lease=LEASE)

    with keeper.holding(taken.agent_run_id, 1) as lease:
        keeper.renew()

        assert lease.stopping.is_set()
        assert not lease.lost.is_set()
    keeper.stop()


def test_worker_lost_while_its_run_is_cancelled_is_not_replaced(acme: World) -> None:
    run_id = start(acme, {"a": simulated("x")})
    advance(acme.tenant.id, run_id)
    claim(acme.tenant.id, step_of(acme, run_id, "a").id, worker="w1", lease=timedelta(seconds=-1))
    act(acme, run_id, cancel_run)

    sweep()

    assert drain(acme, run_id).status == "cancelled"


@pytest.mark.parametrize("strategy", ["levels", "adaptive"])
def test_paused_run_hands_out_nothing_until_it_is_resumed(acme: World, strategy: str) -> None:
    steps = {"a": echo(value=1), "x": echo(value=0), "b": echo(value=2, needs=["a"])}
    run_id = start(acme, steps, strategy=strategy)
    advance(acme.tenant.id, run_id)
    taken = claim(acme.tenant.id, step_of(acme, run_id, "a").id, worker="w1", lease=LEASE)
    assert taken

    act(acme, run_id, pause_run)
    agent_runs._finish(taken, agent_runs._Result(output=1), Lease(taken.agent_run_id, 1))
    execute(acme, run_id, "x")
    assert drain(acme, run_id).status == "paused"
    assert queued(acme, run_id) == []
    assert statuses(acme, run_id)["a"] == "completed"

    act(acme, run_id, resume_run)

    assert drain(acme, run_id).status == "completed"


def test_paused_run_can_be_cancelled(acme: World) -> None:
    run_id = start(acme, {"a": echo(value=1)})
    act(acme, run_id, pause_run)

    act(acme, run_id, cancel_run)
    advance(acme.tenant.id, run_id)

    assert run_of(acme, run_id).status == "cancelled"


@pytest.mark.parametrize("strategy", ["levels", "adaptive"])
def test_retried_run_keeps_what_completed(acme: World, strategy: str) -> None:
    steps = {
        "good": echo(value=1),
        "bad": broken(needs=["good"]),
        "end": echo(value=3, needs=["bad", "good"]),
    }
    run_id = start(acme, steps, strategy=strategy)
    assert drain(acme, run_id).status == "failed"
    before = step_of(acme, run_id, "good")

    act(acme, run_id, retry_run)
    run = drain(acme, run_id)

    assert run.status == "failed"
    assert step_of(acme, run_id, "good").attempt == before.attempt == 1
    assert step_of(acme, run_id, "bad").attempt == 2


@pytest.mark.parametrize("strategy", ["levels", "adaptive"])
def test_cancelled_run_can_be_taken_up_again_and_completes(acme: World, strategy: str) -> None:
    steps = {"a": echo(value=1), "b": echo(value=2), "c": echo(value=3, needs=["a", "b"])}
    run_id = start(acme, steps, strategy=strategy)
    advance(acme.tenant.id, run_id)
    execute(acme, run_id, "a")
    act(acme, run_id, cancel_run)
    assert drain(acme, run_id).status == "cancelled"

    act(acme, run_id, retry_run)

    assert drain(acme, run_id).status == "completed"
    assert step_of(acme, run_id, "a").attempt == 1


def test_state_that_forbids_is_named(acme: World) -> None:
    run_id = start(acme, {"a": echo(value=1)})
    drain(acme, run_id)

    for action in (cancel_run, pause_run, resume_run, retry_run):
        with pytest.raises(RunStateError, match="A run that is completed cannot be"):
            act(acme, run_id, action)
