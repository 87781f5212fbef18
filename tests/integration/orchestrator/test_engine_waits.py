"""Retries, time-outs, delays and deadlines, against the real database."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from orchestrator.execution import engine_db
from orchestrator.execution.claims import claim
from orchestrator.models import Attempt
from orchestrator.services import agent_runs
from orchestrator.services.advance import advance
from orchestrator.services.sweep import Sweeper, sweep
from tenants.models import Tenant, TenantStatus
from tenants.scope import as_operator
from tests.e2e.stories import echo, simulated, start, statuses
from tests.engine_driver import drain, queued, run_of, step_of
from tests.eventually import eventually
from tests.world import World

LONG = {"strategy": "constant", "base": "1h", "cap": "1h", "jitter": False}


def flaky(**fields: Any) -> dict[str, Any]:
    """A step whose provider is overloaded, always."""
    return {**simulated("x", failures={"overloaded": 1.0}), **fields}


def make_due(world: World, run_id: UUID, step: str = "a") -> None:
    query = "UPDATE agent_run SET due_at = now() - interval '1 s' WHERE id = %s RETURNING id"
    engine_db.one(query, step_of(world, run_id, step).id, alias="system")


def attempts(world: World, run_id: UUID, step: str = "a") -> list[tuple[int, str]]:
    agent_run = step_of(world, run_id, step)
    with world.scope():
        tried = Attempt.objects.filter(agent_run=agent_run).order_by("number")
        return list(tried.values_list("number", "outcome"))


def execute(world: World, run_id: UUID, step: str = "a") -> None:
    agent_runs.execute(world.tenant.id, step_of(world, run_id, step).id, worker="w1")


@pytest.mark.parametrize("strategy", ["levels", "adaptive"])
def test_failed_attempt_waits_for_the_next_without_a_worker(acme: World, strategy: str) -> None:
    run_id = start(acme, {"a": flaky(retry={**LONG, "attempts": 3})}, strategy=strategy)
    advance(acme.tenant.id, run_id)

    execute(acme, run_id)

    a = step_of(acme, run_id, "a")
    assert (a.status, a.waiting_for) == ("waiting", "retry")
    assert a.due_at
    assert a.due_at - a.attempt_started_at > timedelta(minutes=59)
    assert a.error["retryable"]
    sweep()  # what other tests have left
    make_due(acme, run_id)
    assert sweep().woken == 1
    assert [agent_run.step for agent_run in queued(acme, run_id)] == ["a"]


def test_attempt_goes_on_when_it_is_due_and_not_with_the_next_sweep(acme: World) -> None:
    run_id = start(acme, {"a": flaky(retry={**LONG, "attempts": 3})})
    advance(acme.tenant.id, run_id)
    execute(acme, run_id)
    a = step_of(acme, run_id, "a")
    later = "UPDATE agent_run SET due_at = now() + interval '1 s' WHERE id = %s RETURNING id"
    engine_db.one(later, a.id, alias="system")
    sweeper = Sweeper()
    sweeper.sweep()
    sweeper.wake()
    assert not queued(acme, run_id)

    def is_woken() -> bool:
        sweeper.wake()
        return bool(queued(acme, run_id))

    eventually(is_woken)


def test_wait_that_began_anew_is_not_ended_by_who_saw_the_old_one(acme: World) -> None:
    run_id = start(acme, {"a": flaky(retry={**LONG, "attempts": 3})})
    advance(acme.tenant.id, run_id)
    execute(acme, run_id)
    waiting = step_of(acme, run_id, "a").id

    stale = "SELECT * FROM muster_wake(%s, %s, %s::uuid[])"

    assert engine_db.many(stale, acme.tenant.id, run_id, [waiting]) == []


def test_last_attempt_fails_the_step_and_each_is_on_record(acme: World) -> None:
    run_id = start(acme, {"a": flaky(retry={**LONG, "attempts": 2})})
    advance(acme.tenant.id, run_id)
    execute(acme, run_id)
    make_due(acme, run_id)
    sweep()

    run = drain(acme, run_id)

    assert run.status == "failed"
    assert attempts(acme, run_id) == [(1, "failed"), (2, "failed")]


def test_short_pause_is_slept_through(acme: World) -> None:
    retry = {"strategy": "constant", "base": "1s", "attempts": 2, "jitter": False}
    run_id = start(acme, {"a": flaky(retry=retry)})
    advance(acme.tenant.id, run_id)

    execute(acme, run_id)

    assert [agent_run.step for agent_run in queued(acme, run_id)] == ["a"]


def test_error_that_no_retry_mends_fails_at_once(acme: World) -> None:
    step = simulated("x", failures={"auth": 1.0})
    run_id = start(acme, {"a": {**step, "retry": {"attempts": 5}}})

    drain(acme, run_id)

    assert attempts(acme, run_id) == [(1, "failed")]


def test_lost_worker_does_not_use_up_an_attempt(acme: World) -> None:
    run_id = start(acme, {"a": flaky(retry={**LONG, "attempts": 2})})
    advance(acme.tenant.id, run_id)
    a = step_of(acme, run_id, "a")
    claim(acme.tenant.id, a.id, worker="w0", lease=timedelta(seconds=-1))
    sweep()

    execute(acme, run_id)

    assert attempts(acme, run_id) == [(1, "lost"), (2, "failed")]
    assert step_of(acme, run_id, "a").status == "waiting"


def test_hung_thread_is_failed_by_its_steps_time(acme: World) -> None:
    run_id = start(acme, {"a": {**echo(value=1), "timeout": "1s", "retry": {"attempts": 1}}})
    advance(acme.tenant.id, run_id)
    a = step_of(acme, run_id, "a")
    claim(acme.tenant.id, a.id, worker="w1", lease=timedelta(seconds=30))
    engine_db.one(
        "UPDATE agent_run SET attempt_started_at = attempt_started_at - interval '10 s'"
        " WHERE id = %s RETURNING id",
        a.id,
        alias="system",
    )

    renew = "SELECT id FROM muster_renew_leases('w1', %s::uuid[], %s::int[], '30 s', '5 s')"
    engine_db.many(renew, [a.id], [1])
    sweep()

    a = step_of(acme, run_id, "a")
    assert (a.status, a.status_reason) == ("failed", "The step did not end within its 1 s.")


@pytest.mark.parametrize("strategy", ["levels", "adaptive"])
def test_delay_holds_no_worker_and_its_followers_go_on(acme: World, strategy: str) -> None:
    steps = {
        "a": echo(value=1),
        "pause": {"needs": ["a"], "delay": "10m"},
        "b": echo(value=2, needs=["pause"]),
    }
    run_id = start(acme, steps, strategy=strategy)
    drain(acme, run_id)
    waiting = step_of(acme, run_id, "pause")
    assert (waiting.status, waiting.waiting_for) == ("waiting", "delay")

    make_due(acme, run_id, "pause")
    sweep()

    assert drain(acme, run_id).status == "completed"


def test_run_past_its_deadline_ends_with_that_reason(acme: World) -> None:
    run_id = start(acme, {"a": echo(value=1), "b": echo(value=2, needs=["a"])}, deadline="10m")
    advance(acme.tenant.id, run_id)
    late = (
        "UPDATE run SET deadline_at = clock_timestamp() - interval '1 s' WHERE id = %s RETURNING id"
    )
    engine_db.one(late, run_id, alias="system")

    sweep()
    advance(acme.tenant.id, run_id)

    run = run_of(acme, run_id)
    assert (run.status, run.status_reason) == ("failed", "It did not end before its deadline")
    assert statuses(acme, run_id) == {"a": "cancelled", "b": "cancelled"}


def test_runs_of_a_suspended_tenant_stop_at_the_next_boundary(acme: World) -> None:
    run_id = start(acme, {"a": echo(value=1), "b": echo(value=2, needs=["a"])})
    advance(acme.tenant.id, run_id)
    with as_operator():
        Tenant.objects.filter(id=acme.tenant.id).update(status=TenantStatus.SUSPENDED)

    sweep()
    run = drain(acme, run_id)

    assert (run.status, run.status_reason) == ("cancelled", "The tenant was suspended")


def test_output_that_is_too_large_fails_its_step(
    acme: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_runs, "MAX_OUTPUT_BYTES", 10)
    run_id = start(acme, {"a": echo(value="x" * 100)})

    drain(acme, run_id)

    assert step_of(acme, run_id, "a").error["code"] == "output_too_large"
