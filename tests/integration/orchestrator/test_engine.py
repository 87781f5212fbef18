"""The engine's functions, one by one, against the real database."""

import threading
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from agents_app.core.errors import ProviderError
from agents_app.core.model import Message, ModelReply, ModelRequest
from costs.models import CostEntry
from orchestrator.execution import engine_db, gateway, leases
from orchestrator.execution.call_rows import end_call
from orchestrator.execution.claims import Claim, claim
from orchestrator.execution.errors import LeaseLostError
from orchestrator.execution.gateway import GuardedClient
from orchestrator.execution.leases import Lease, LeaseKeeper
from orchestrator.execution.providers import TenantClient
from orchestrator.models import AgentRun, Attempt, LlmCall, Run
from orchestrator.services import agent_runs
from orchestrator.services import sweep as sweeping
from orchestrator.services.advance import advance
from orchestrator.services.runs import start_run
from orchestrator.services.sweep import sweep
from orchestrator.services.workflows import publish_spec
from tests.e2e.stories import echo, simulated, start
from tests.eventually import eventually
from tests.world import World

LEASE = timedelta(seconds=30)
EXPIRED = timedelta(seconds=-1)


def the_step(world: World, run_id: UUID, name: str = "a") -> AgentRun:
    with world.scope():
        return AgentRun.objects.get(run_id=run_id, step=name)


def queued(world: World, **steps: Any) -> UUID:
    """The agent run of step `a`, of a run whose first level is queued."""
    run_id = start(world, steps or {"a": simulated("hello")})
    advance(world.tenant.id, run_id)
    return the_step(world, run_id).id


def take(world: World, agent_run: UUID, *, worker: str = "w1", lease: timedelta = LEASE) -> Claim:
    taken = claim(world.tenant.id, agent_run, worker=worker, lease=lease)
    assert taken
    return taken


def client(taken: Claim) -> GuardedClient:
    return GuardedClient(taken, Lease(taken.agent_run_id, taken.attempt), role="executor")


def request(**parameters: Any) -> ModelRequest:
    return ModelRequest(
        provider="simulated",
        model="sim",
        messages=(Message("user", "hello"),),
        parameters={"text": "hi", **parameters},
    )


def calls(world: World) -> list[LlmCall]:
    with world.scope():
        return list(LlmCall.objects.order_by("created_at"))


def ledger(world: World) -> list[tuple[str, int]]:
    with world.scope():
        return list(CostEntry.objects.order_by("id").values_list("kind", "amount_nano"))


def test_claim_loses_when_step_is_already_running(acme: World) -> None:
    agent_run = queued(acme)

    first = claim(acme.tenant.id, agent_run, worker="w1", lease=LEASE)
    second = claim(acme.tenant.id, agent_run, worker="w2", lease=LEASE)

    assert first
    assert (first.attempt, second) == (1, None)


def test_claim_loses_for_another_tenant(acme: World, globex: World) -> None:
    assert claim(globex.tenant.id, queued(acme), worker="w", lease=LEASE) is None


def test_advance_twice_changes_nothing(acme: World) -> None:
    run_id = start(acme, {"a": echo(value=1), "b": echo(value=2, needs=["a"])})

    advance(acme.tenant.id, run_id)
    advance(acme.tenant.id, run_id)

    assert the_step(acme, run_id, "a").status == "queued"
    assert the_step(acme, run_id, "b").status == "pending"


def test_lost_lease_gives_the_step_its_next_attempt(acme: World) -> None:
    agent_run = queued(acme)
    take(acme, agent_run, lease=EXPIRED)

    sweep()

    assert take(acme, agent_run, worker="w2").attempt == 2


def test_stale_worker_cannot_overwrite_newer_work(acme: World) -> None:
    agent_run = queued(acme, a=echo(value="x"))
    stale = take(acme, agent_run, lease=EXPIRED)
    sweep()
    fresh = take(acme, agent_run, worker="w2")
    lease = Lease(agent_run, 1)

    agent_runs._finish(stale, agent_runs._Result(output="stale"), lease)
    agent_runs._finish(fresh, agent_runs._Result(output="fresh"), lease)

    assert the_step(acme, fresh.run_id).output == "fresh"


def test_stale_worker_cannot_open_a_call(acme: World) -> None:
    agent_run = queued(acme)
    stale = take(acme, agent_run, lease=EXPIRED)

    with pytest.raises(LeaseLostError):
        client(stale).complete(request())
    assert calls(acme) == []


def test_answered_turn_is_never_asked_again(acme: World) -> None:
    agent_run = queued(acme)
    first = take(acme, agent_run)
    answer = client(first).complete(request())
    expire(agent_run)
    sweep()

    again = client(take(acme, agent_run)).complete(request(text="another answer"))

    assert again == answer
    assert [call.status for call in calls(acme)] == ["closed"]


def expire(agent_run: UUID) -> None:
    engine_db.one(
        "UPDATE agent_run SET lease_until = clock_timestamp() - interval '1 s'"
        " WHERE id = %s RETURNING id",
        agent_run,
        alias="system",
    )


def open_call(taken: Claim) -> UUID:
    guarded = client(taken)
    guarded._turn = 1
    return guarded._open(request()).id


def test_call_of_a_dead_worker_is_charged_as_in_doubt(acme: World) -> None:
    agent_run = queued(acme)
    open_call(take(acme, agent_run))
    expire(agent_run)

    sweep()

    (call,) = calls(acme)
    assert call.status == "in_doubt"
    assert ledger(acme) == [("in_doubt", call.hold_nano)]


def test_late_answer_corrects_what_was_charged(acme: World) -> None:
    agent_run = queued(acme)
    taken = take(acme, agent_run)
    call = open_call(taken)
    engine_db.one(
        "UPDATE llm_call SET hold_nano = 900 WHERE id = %s RETURNING id", call, alias="system"
    )
    expire(agent_run)
    sweep()

    end_call(acme.tenant.id, call, status="closed", charge=250)
    end_call(acme.tenant.id, call, status="closed", charge=250)

    assert ledger(acme) == [("in_doubt", 900), ("correction", -650)]
    assert calls(acme)[0].cost_nano == 250


def test_refused_call_is_recorded_and_costs_nothing(acme: World) -> None:
    taken = take(acme, queued(acme))

    with pytest.raises(ProviderError):
        client(taken).complete(request(fail_attempts=["rate_limited"]))

    assert [(call.status, call.error["kind"]) for call in calls(acme)] == [
        ("failed", "rate_limited")
    ]
    assert ledger(acme) == [("failed", 0)]


def test_step_that_keeps_losing_its_worker_fails(acme: World) -> None:
    agent_run = queued(acme)
    for _ in range(5):
        take(acme, agent_run, lease=EXPIRED)
        sweep()

    with acme.scope():
        row = AgentRun.objects.get(id=agent_run)
        assert (row.status, row.error["code"]) == ("failed", "worker_lost")
        assert row.attempts.count() == 5


def test_step_that_workers_hand_over_goes_on_however_often(acme: World) -> None:
    agent_run = queued(acme)
    for _ in range(6):
        taken = take(acme, agent_run)
        keeper = LeaseKeeper("w1", lease=timedelta(seconds=30))
        with keeper.holding(agent_run, taken.attempt):
            assert keeper.hand_over() == 1
        sweep()

    assert take(acme, agent_run).failures == 0
    with acme.scope():
        told = Attempt.objects.filter(agent_run=agent_run).values_list("outcome", "error__code")
        assert list(told) == [("handed_over", "worker_left")] * 6


def test_steps_time_is_over_also_where_it_is_handed_over(acme: World) -> None:
    agent_run = queued(acme)
    taken = take(acme, agent_run)
    with acme.scope():
        AgentRun.objects.filter(id=agent_run).update(timeout_seconds=0)
    keeper = LeaseKeeper("w1", lease=timedelta(seconds=30))
    with keeper.holding(agent_run, taken.attempt):
        keeper.hand_over()
    sweep()

    with acme.scope():
        assert AgentRun.objects.get(id=agent_run).error["code"] == "timeout"


def test_renewed_lease_is_not_swept(acme: World) -> None:
    agent_run = queued(acme)
    take(acme, agent_run, lease=EXPIRED)

    renewed = engine_db.many(
        "SELECT id FROM muster_renew_leases('w1', %s::uuid[], %s::int[], '30 s', '5 s')",
        [agent_run],
        [1],
    )
    sweep()

    assert [row["id"] for row in renewed] == [agent_run]
    with acme.scope():
        assert AgentRun.objects.get(id=agent_run).status == "running"


def test_lease_of_another_worker_or_attempt_is_not_renewed(acme: World) -> None:
    agent_run = queued(acme)
    take(acme, agent_run)

    for worker, attempt in (("w2", 1), ("w1", 2)):
        renewed = engine_db.many(
            "SELECT id FROM muster_renew_leases(%s, %s::uuid[], %s::int[], '30 s', '5 s')",
            worker,
            [agent_run],
            [attempt],
        )
        assert renewed == []


def test_run_of_a_finished_level_goes_on_when_the_chord_is_lost(acme: World) -> None:
    run_id = start(acme, {"a": echo(value=1), "b": echo(value=2, needs=["a"])})
    advance(acme.tenant.id, run_id)
    agent_runs.execute(acme.tenant.id, the_step(acme, run_id).id, worker="w1")

    advance(acme.tenant.id, run_id)

    assert the_step(acme, run_id, "b").status == "queued"


def test_finished_run_has_its_output_and_reason(acme: World) -> None:
    run_id = start(acme, {"a": echo(value={"n": 1})}, output={"n": "${steps.a.output.n}"})
    advance(acme.tenant.id, run_id)
    agent_runs.execute(acme.tenant.id, the_step(acme, run_id).id, worker="w1")
    advance(acme.tenant.id, run_id)

    with acme.scope():
        run = Run.objects.get(id=run_id)
    assert (run.status, run.output) == ("completed", {"n": 1})


class Breaking:
    """A provider's client with a bug."""

    def complete(self, request: ModelRequest) -> ModelReply:
        raise RuntimeError("a bug in the client")


def test_call_whose_client_breaks_is_charged_as_in_doubt(
    acme: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        gateway, "client_for_tenant", lambda *_, **__: TenantClient(client=Breaking())
    )
    agent_run = queued(acme)

    agent_runs.execute(acme.tenant.id, agent_run, worker="w1")

    (call,) = calls(acme)
    assert call.status == "in_doubt"
    assert ledger(acme) == [("in_doubt", call.hold_nano)]


def test_call_that_an_attempt_left_open_ends_with_it(acme: World) -> None:
    agent_run = queued(acme)
    taken = take(acme, agent_run)
    open_call(taken)

    agent_runs._finish(taken, agent_runs._Result(output="x"), Lease(agent_run, 1))

    assert [call.status for call in calls(acme)] == ["in_doubt"]


def test_moment_without_database_is_not_the_steps_fault(
    acme: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise psycopg.OperationalError("the server went away")

    monkeypatch.setattr(gateway, "price_for", away)
    agent_run = queued(acme)

    agent_runs.execute(acme.tenant.id, agent_run, worker="w1")
    monkeypatch.undo()
    expire(agent_run)
    sweep()

    assert take(acme, agent_run, worker="w2").attempt == 2


def test_fail_fast_waits_for_a_claim_that_commits_meanwhile(acme: World) -> None:
    """The claim's transaction is open while the run is stopped; its step must be counted."""
    run_id = start(acme, {"a": simulated("x"), "b": echo(value=1)})
    advance(acme.tenant.id, run_id)
    a = the_step(acme, run_id, "a").id
    stopped: list[int] = []

    def stop() -> None:
        query = "SELECT muster_stop_steps(%s, %s, 'cancelled', 'stop') AS running"
        row = engine_db.one(query, acme.tenant.id, run_id, alias="system")
        stopped.append(row["running"] if row else -1)

    stopper = threading.Thread(target=stop)
    with engine_db.transaction() as connection:
        query = "SELECT * FROM muster_claim_all(%s, %s::uuid[], 'w1', '30 s')"
        assert engine_db.rows(connection, query, [acme.tenant.id, [a]])
        stopper.start()
        eventually(lambda: waiting_for_locks() > 0)
    stopper.join(10)

    assert stopped == [1]


def waiting_for_locks() -> int:
    query = "SELECT count(*) AS n FROM pg_locks WHERE NOT granted"
    row = engine_db.one(query, alias="system")
    return row["n"] if row else 0


def test_priority_of_a_run_lifts_its_steps_but_not_their_weight(acme: World) -> None:
    with acme.scope():
        spec = {"muster": 1, "name": "urgent", "steps": {"a": {**echo(value=1), "priority": 7}}}
        version = publish_spec(project=acme.project, spec=spec)
        run = start_run(workflow=version.workflow, input={}, priority=9)

    assert the_step(acme, run.id).priority == 10


def test_lease_keeper_survives_what_it_did_not_foresee(
    acme: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = iter([psycopg.errors.ReadOnlySqlTransaction("standby")])

    def renew(*_: object) -> list[dict[str, Any]]:
        for failure in failures:
            raise failure
        return [{"id": agent_run, "attempt": 1, "is_stopping": False}]

    agent_run = queued(acme)
    monkeypatch.setattr(leases.engine_db, "many", renew)
    keeper = LeaseKeeper("w1", lease=timedelta(seconds=0.05))

    with keeper.holding(agent_run, 1) as lease:
        eventually(lambda: next(failures, None) is None)
        assert keeper._thread is not None
        assert keeper._thread.is_alive()
        assert not lease.lost.is_set()
    keeper.stop()


def test_one_bad_row_does_not_stop_the_sweep(acme: World, monkeypatch: pytest.MonkeyPatch) -> None:
    agent_run = queued(acme)
    take(acme, agent_run, lease=EXPIRED)
    monkeypatch.setattr(sweeping, "_ENDS", "SELECT 1/(%s - 500) AS broken")

    swept = sweep()

    assert swept.recovered >= 1


def test_output_that_cannot_be_filled_in_says_why(acme: World) -> None:
    run_id = start(acme, {"a": echo(value={"n": 1})}, output="${steps.a.output.missing}")
    advance(acme.tenant.id, run_id)
    agent_runs.execute(acme.tenant.id, the_step(acme, run_id).id, worker="w1")
    advance(acme.tenant.id, run_id)

    with acme.scope():
        run = Run.objects.get(id=run_id)
    assert (run.status, run.output) == ("completed", None)
    assert "missing" in run.status_reason
