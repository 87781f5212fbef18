"""Tenants share the workers: windows, what waits for a place, and in which order it is sent."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from orchestrator.execution import engine_db, presence
from orchestrator.execution.claims import claim
from orchestrator.models import (
    AgentRun,
    ClusterLoad,
    ReadyAgentRun,
    Run,
    TenantLoad,
    TenantShare,
    WorkerProcess,
)
from orchestrator.services import agent_runs, fair_shares
from orchestrator.services.advance import advance
from orchestrator.services.control import cancel_run, pause_run, resume_run
from orchestrator.services.fair_shares import AGES_IN_SECONDS, Dealer
from orchestrator.services.runs import start_run
from orchestrator.services.sweep import sweep
from orchestrator.services.workflows import publish_spec
from tenants.kernel.clock import now
from tenants.models import Tenant
from tests.e2e.stories import echo, simulated, start
from tests.engine_driver import drain, queued, run_of
from tests.integration.orchestrator.test_engine_control import act
from tests.world import World


@pytest.fixture(autouse=True)
def nothing_dealt(live_db: None) -> Iterator[None]:
    """What is dealt out holds for all tenants, and so for the tests that follow."""
    yield
    for model in (ClusterLoad, TenantShare, WorkerProcess):
        model.objects.using("system").all().delete()


AGE = "SELECT muster_age_waiting(%s::uuid[], %s)"


def wide(size: int, **fields: object) -> dict[str, object]:
    return {f"s{number}": {**echo(value=number), **fields} for number in range(size)}


def give_window(world: World, window: int) -> None:
    TenantShare.objects.using("system").update_or_create(
        tenant_id=world.tenant.id, defaults={"window": window}
    )


def in_flight(world: World) -> int:
    with world.scope():
        return sum(TenantLoad.objects.values_list("in_flight", flat=True))


def begin(world: World, size: int, **options: Any) -> UUID:
    """A run of one level with a priority or a deadline, advanced."""
    with world.scope():
        spec = {"muster": 1, "name": "story", "steps": wide(size)}
        version = publish_spec(project=world.project, spec=spec)
        run = start_run(workflow=version.workflow, version=version, input={}, **options)
    advance(world.tenant.id, run.id)
    return run.id


def statuses(world: World, run_id: UUID) -> list[str]:
    with world.scope():
        found = AgentRun.objects.filter(run_id=run_id).order_by("position")
        return list(found.values_list("status", flat=True))


def drain_all(world: World, *runs: UUID) -> set[str]:
    """They share places, so that none may come to its end without the others."""
    for _ in range(10):
        ended = {drain(world, run_id).status for run_id in runs}
        if ended == {"completed"}:
            break
    return ended


def execute_one(world: World, run_id: UUID) -> None:
    agent_runs.execute(world.tenant.id, queued(world, run_id)[0].id, worker="w1")


@pytest.mark.parametrize("strategy", ["levels", "adaptive"])
def test_more_than_the_window_waits_and_is_sent_as_steps_end(acme: World, strategy: str) -> None:
    give_window(acme, 2)
    run_id = start(acme, wide(5), strategy=strategy)
    advance(acme.tenant.id, run_id)
    assert statuses(acme, run_id) == ["queued"] * 2 + ["ready"] * 3

    execute_one(acme, run_id)

    assert sorted(statuses(acme, run_id)) == ["completed", "queued", "queued", "ready", "ready"]
    assert in_flight(acme) == 2
    assert drain(acme, run_id).status == "completed"
    assert in_flight(acme) == 0


def test_window_counts_all_runs_of_the_tenant_and_no_others(acme: World, globex: World) -> None:
    give_window(acme, 2)
    runs = [start(acme, wide(2)) for _ in range(2)]
    other = start(globex, wide(2))
    for world, run_id in [(acme, runs[0]), (acme, runs[1]), (globex, other)]:
        advance(world.tenant.id, run_id)

    assert statuses(acme, runs[0]) == ["queued"] * 2
    assert statuses(acme, runs[1]) == ["ready"] * 2
    assert statuses(globex, other) == ["queued"] * 2


def test_step_that_ends_sends_one_of_another_run(acme: World) -> None:
    give_window(acme, 1)
    first, second = (start(acme, wide(1)) for _ in range(2))
    advance(acme.tenant.id, first)
    advance(acme.tenant.id, second)

    execute_one(acme, first)

    assert statuses(acme, second) == ["queued"]


def test_most_urgent_goes_first_then_nearest_deadline_then_oldest(acme: World) -> None:
    give_window(acme, 1)
    blocker = start(acme, wide(1))
    advance(acme.tenant.id, blocker)
    old, late, soon, urgent = (
        begin(acme, 1),
        begin(acme, 1, deadline=timedelta(hours=2)),
        begin(acme, 1, deadline=timedelta(hours=1)),
        begin(acme, 1, priority=9),
    )

    order = []
    execute_one(acme, blocker)
    waiting = {old, late, soon, urgent}
    while waiting:
        (sent,) = [run_id for run_id in waiting if statuses(acme, run_id) == ["queued"]]
        order.append(sent)
        waiting.discard(sent)
        execute_one(acme, sent)

    assert order == [urgent, soon, late, old]


def test_what_waits_long_becomes_more_urgent(acme: World) -> None:
    give_window(acme, 0)
    begin(acme, 1, priority=1)
    since = (now() - timedelta(seconds=AGES_IN_SECONDS * 3.5)).timestamp()
    with acme.scope():
        ReadyAgentRun.objects.update(position=int(since) * 1000)

    for _ in range(5):
        engine_db.many(AGE, [acme.tenant.id], AGES_IN_SECONDS, alias="system")

    with acme.scope():
        assert ReadyAgentRun.objects.get().urgency == 9 - 3


def test_paused_run_leaves_its_places_to_others(acme: World) -> None:
    give_window(acme, 2)
    held, other = (start(acme, wide(3)) for _ in range(2))
    advance(acme.tenant.id, held)
    advance(acme.tenant.id, other)

    act(acme, held, pause_run)
    Dealer().deal()

    assert set(statuses(acme, held)) == {"ready"}
    assert "queued" in statuses(acme, other)
    act(acme, held, resume_run)
    advance(acme.tenant.id, held)
    assert drain_all(acme, held, other) == {"completed"}
    assert in_flight(acme) == 0


def test_cancelled_run_leaves_its_places_to_others(acme: World) -> None:
    give_window(acme, 2)
    ended, other = (start(acme, wide(3)) for _ in range(2))
    advance(acme.tenant.id, ended)
    advance(acme.tenant.id, other)

    act(acme, ended, cancel_run)
    advance(acme.tenant.id, ended)
    Dealer().deal()

    assert run_of(acme, ended).status == "cancelled"
    assert "queued" in statuses(acme, other)
    assert drain(acme, other).status == "completed"
    assert in_flight(acme) == 0


def test_window_of_the_run_and_that_of_the_tenant_hold_together(acme: World) -> None:
    give_window(acme, 3)
    narrow = start(acme, wide(4), max_parallel=2)
    broad = start(acme, wide(4))
    advance(acme.tenant.id, narrow)
    advance(acme.tenant.id, broad)

    assert statuses(acme, narrow).count("queued") == 2
    assert statuses(acme, broad).count("queued") == 1
    assert drain_all(acme, narrow, broad) == {"completed"}


def test_workers_are_dealt_out_by_weight(
    acme: World, globex: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not what other tests have left.
    of_both = f"tenant_id IN ('{acme.tenant.id}', '{globex.tenant.id}')"
    monkeypatch.setattr(fair_shares, "_LOADS", f"SELECT * FROM muster_loads(%s) WHERE {of_both}")
    Tenant.objects.using("system").filter(id=acme.tenant.id).update(weight=3)
    presence.here("w1@test", slots=64)
    for world in (acme, globex):
        give_window(world, 1)
        advance(world.tenant.id, start(world, wide(100)))

    Dealer().deal()

    assert 3 * in_flight(globex) <= in_flight(acme) <= 3 * in_flight(globex) + 3
    assert in_flight(acme) + in_flight(globex) <= 64 + 8


def test_wrong_count_is_put_right(acme: World) -> None:
    run_id = start(acme, {"a": simulated("x")})
    advance(acme.tenant.id, run_id)
    with acme.scope():
        TenantLoad.objects.create(tenant=acme.tenant, connection=1, in_flight=7, ended=0)

    wrong = engine_db.many("SELECT * FROM muster_mend_loads()", alias="system")

    assert (acme.tenant.id, 7) in {(row["tenant_id"], row["wrong_by"]) for row in wrong}
    assert in_flight(acme) == 1


def test_run_whose_steps_wait_for_a_place_is_not_nudged(acme: World) -> None:
    give_window(acme, 0)
    run_id = start(acme, wide(2))
    advance(acme.tenant.id, run_id)
    with acme.scope():
        Run.objects.update(advance_wanted_at=now() - timedelta(minutes=1))

    nudged = engine_db.many("SELECT * FROM muster_sweep_runs(10)", alias="system")

    assert run_id not in {row["run_id"] for row in nudged}


def test_lost_attempts_of_a_paused_run_give_their_places_back(acme: World) -> None:
    give_window(acme, 1)
    held, other = start(acme, wide(1)), start(acme, wide(1))
    advance(acme.tenant.id, held)
    advance(acme.tenant.id, other)
    lost = queued(acme, held)[0].id
    assert claim(acme.tenant.id, lost, worker="w1", lease=timedelta(seconds=-1))
    act(acme, held, pause_run)

    sweep()
    sweep()

    assert statuses(acme, held) == ["ready"]
    assert in_flight(acme) == 0
    Dealer().deal()
    assert statuses(acme, other) == ["queued"]
