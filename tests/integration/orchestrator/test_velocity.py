"""The guard against loops, over real runs and the real ledger."""

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.core import mail

from costs.models import CostAlert, TenantPrice
from orchestrator.core.velocity import ENOUGH_MINUTES
from orchestrator.execution import engine_db
from orchestrator.models import RunEvent, SpendMinute
from orchestrator.services import agent_runs
from orchestrator.services.advance import advance
from orchestrator.services.alerts import deliver
from orchestrator.services.control import cancel_run, pause_run, resume_run
from orchestrator.services.velocity import Guard
from tenants.kernel.clock import now
from tenants.models import AuditEntry, User
from tests.e2e.stories import simulated, start
from tests.engine_driver import drain, drain_all, open_limiter, queued, run_of
from tests.integration.orchestrator.test_engine_calls import child_of, published
from tests.integration.orchestrator.test_engine_control import act
from tests.ledger import charge
from tests.world import World

USD = 10**9


@pytest.fixture(autouse=True)
def _priced(acme: World, settings: Any) -> None:
    """Calls cost a dollar, and a run or a tenant of which nothing is known may spend four."""
    settings.MUSTER_VELOCITY_FLOOR_NANO = USD
    settings.MUSTER_VELOCITY_FACTOR = 4
    open_limiter()
    price(acme)


def price(world: World) -> None:
    with world.scope():
        TenantPrice.objects.create(
            provider="simulated",
            model="*",
            valid_from="2020-01-01",
            input_usd=Decimal(0),
            output_usd=Decimal(10_000),
        )


def thought(needs: list[str] | None = None, *, cost: str = "1") -> dict[str, Any]:
    tokens = int(Decimal(cost) * 100)
    return simulated("think", needs, output_tokens=tokens, max_output_tokens=tokens)


def chain(count: int, **fields: Any) -> dict[str, Any]:
    return {f"s{n}": thought([f"s{n - 1}"] if n else None, **fields) for n in range(count)}


def spend(world: World, run_id: UUID, calls: int) -> None:
    """Have the run make so many calls, one of its chain after the other, and stand there."""
    advance(world.tenant.id, run_id)
    for _ in range(calls):
        (due,) = queued(world, run_id)
        agent_runs.execute(world.tenant.id, due.id, worker="w1")
        advance(world.tenant.id, run_id)


def wild(world: World, *, calls: int = 5, **fields: Any) -> UUID:
    """A run of a new workflow that has made so many calls, and is not through."""
    run_id = start(world, chain(calls + 1, **fields), name=f"wild-{uuid4().hex[:8]}")
    spend(world, run_id, calls)
    return run_id


def status(world: World, *run_ids: UUID) -> list[str]:
    return [run_of(world, run_id).status for run_id in run_ids]


def test_run_that_spends_too_fast_is_paused_and_says_why(acme: World) -> None:
    run_id = wild(acme)

    Guard().watch()

    run = run_of(acme, run_id)
    assert run.status == "paused"
    assert "It spent 5 USD in the last minute, and more than 4 USD asks" in run.status_reason
    assert queued(acme, run_id) == []
    with acme.scope():
        (told,) = RunEvent.objects.filter(run_id=run_id, type="run.spends_fast")
        audited = AuditEntry.objects.get(action="run.paused", object_id=str(run_id))
    figures = {"spent_nano": 5 * USD, "limit_nano": 4 * USD, "usual_nano": None}
    assert told.data == audited.after == {"scope": "run", **figures}
    assert audited.actor_kind == "system"
    with acme.scope():
        alert = CostAlert.objects.get()
    assert (alert.kind, alert.run_id, alert.mail_due_at) == ("velocity", run_id, None)
    assert (alert.spent_nano, alert.limit_nano) == (5 * USD, 4 * USD)


def test_resuming_it_is_a_yes_that_holds_for_a_while(acme: World, settings: Any) -> None:
    run_id = wild(acme)
    Guard().watch()

    act(acme, run_id, resume_run)
    Guard().watch()

    assert status(acme, run_id) == ["running"]
    settings.MUSTER_VELOCITY_YES_SECONDS = 0
    Guard().watch()
    assert status(acme, run_id) == ["paused"]
    act(acme, run_id, resume_run)
    assert drain(acme, run_id).status == "completed"


def test_people_are_told_each_time_by_mail(acme: World, settings: Any) -> None:
    User.objects.using("system").filter(pk=acme.owner.pk).update(email="ada@acme.example")
    settings.MUSTER_VELOCITY_YES_SECONDS = 0
    settings.EMAIL_HOST = "mail.example"
    run_id = wild(acme)

    for _ in range(2):
        Guard().watch()
        act(acme, run_id, resume_run)
    deliver()

    first, second = (m for m in mail.outbox if m.bcc == ["ada@acme.example"])
    assert first.subject == second.subject == "A run was paused for what it spends"
    assert "5 USD were spent in a minute, and more than 4 USD asks" in first.body
    assert str(run_id) in first.body


def test_pause_by_a_person_asks_nobody(acme: World) -> None:
    run_id = wild(acme)
    act(acme, run_id, pause_run)
    act(acme, run_id, resume_run)

    Guard().watch()

    assert status(acme, run_id) == ["paused"]


def test_yes_that_comes_before_the_pause_prevents_it(
    acme: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = wild(acme)
    found = Guard()._look(USD)
    Guard().watch()
    act(acme, run_id, resume_run)

    monkeypatch.setattr(Guard, "_look", lambda *_: found)
    Guard().watch()

    assert status(acme, run_id) == ["running"]


def test_many_cheap_calls_are_nothing_to_ask_about(acme: World) -> None:
    each = {**thought(cost="0.01"), "map": {"over": "${input.items}"}}
    last = simulated("end", ["each"])
    run_id = start(acme, {"each": each, "last": last}, given={"items": list(range(60))})
    for agent_run in _first_wave(acme, run_id):
        agent_runs.execute(acme.tenant.id, agent_run, worker="w1")

    Guard().watch()

    assert drain(acme, run_id).status == "completed"


def test_workflow_with_a_history_is_judged_by_it(acme: World) -> None:
    for _ in range(3):
        drain(acme, start(acme, chain(1, cost="0.3"), name="known"))
    usual, fast = (start(acme, chain(6, cost="0.3"), name="known") for _ in range(2))
    spend(acme, usual, 2)
    spend(acme, fast, 5)

    Guard().watch()

    assert status(acme, usual, fast) == ["running", "paused"]
    reason = run_of(acme, fast).status_reason
    assert "spent 1.5 USD" in reason
    assert "more than 1.2 USD asks for a person's yes, since 0.3 USD are usual" in reason


def test_workflow_that_usually_spends_much_may_go_on_so(acme: World) -> None:
    with acme.scope():
        minute_of(acme, 9 * USD, count=ENOUGH_MINUTES)
    for _ in range(3):
        drain(acme, start(acme, chain(2), name="known"))
    run_id = start(acme, chain(7), name="known")
    spend(acme, run_id, 6)

    Guard().watch()

    assert status(acme, run_id) == ["running"]


def test_runs_that_spend_too_much_together_are_paused_dearest_first(acme: World) -> None:
    cheap, dear, dearer = (wild(acme, calls=n) for n in (1, 2, 3))

    Guard().watch()

    assert status(acme, cheap, dear, dearer) == ["running", "running", "paused"]
    assert "The tenant's runs spent 6 USD in the last minute, this one 3 USD" in (
        run_of(acme, dearer).status_reason
    )


def test_many_short_runs_are_noticed_too(acme: World) -> None:
    for _ in range(5):
        drain(acme, start(acme, chain(1)))
    run_id = wild(acme, calls=1)

    Guard().watch()

    assert status(acme, run_id) == ["paused"]


def test_tenant_that_usually_spends_much_may_go_on_so(acme: World) -> None:
    minute_of(acme, 2 * USD, count=ENOUGH_MINUTES)
    runs = [wild(acme, calls=n) for n in (2, 2, 3)]

    Guard().watch()

    assert status(acme, *runs) == ["running"] * 3


def test_wild_run_that_was_cancelled_is_not_held_against_others(acme: World) -> None:
    run_id = wild(acme)
    Guard().watch()
    act(acme, run_id, cancel_run)
    other = wild(acme, calls=1)

    Guard().watch()

    assert status(acme, other) == ["running"]


def test_one_tenants_spend_is_nothing_to_another(acme: World, globex: World) -> None:
    price(globex)
    of_globex = wild(globex, calls=1)
    wild(acme)

    Guard().watch()

    assert status(globex, of_globex) == ["running"]


def test_spend_of_started_runs_is_that_of_the_run_above(acme: World) -> None:
    published(acme, chain(6))
    run_id = start(acme, {"sub": {"workflow": "check"}})
    advance(acme.tenant.id, run_id)
    child = child_of(acme, run_id).id
    spend(acme, child, 5)

    Guard().watch()
    assert status(acme, run_id, child) == ["paused", "paused"]
    act(acme, run_id, resume_run)
    Guard().watch()

    assert status(acme, run_id, child) == ["running", "running"]
    assert drain_all(acme, run_id).status == "completed"


def test_started_runs_count_in_the_history_of_the_run_above(acme: World) -> None:
    published(acme, chain(2))
    steps = {"sub": {"workflow": "check"}}
    runs = [drain_all(acme, start(acme, steps, name="above")) for _ in range(3)]

    query = "SELECT * FROM muster_busiest_minutes(%s, %s, 20)"
    rows = engine_db.many(query, acme.tenant.id, runs[0].workflow_id, alias="system")

    assert len(rows) == 3
    # Unless a run lies across the turn of a minute.
    assert all(USD <= row["spent"] <= 2 * USD for row in rows)


def test_guard_is_off_without_a_floor(acme: World, settings: Any) -> None:
    settings.MUSTER_VELOCITY_FLOOR_NANO = None
    run_id = wild(acme)

    assert Guard().watch() == 0
    assert status(acme, run_id) == ["running"]


def test_minutes_of_a_tenant_are_kept_once_and_not_for_ever(acme: World) -> None:
    ago = timedelta(minutes=1)
    charge(acme, id=id_of(ago), at=now() - ago, amount_nano=7)
    minute_of(acme, 5, count=1, ago=timedelta(days=9))

    for _ in range(2):
        engine_db.one("SELECT muster_keep_minute('7 days')", alias="system")

    with acme.scope():
        kept = list(SpendMinute.objects.filter(tenant=acme.tenant).values_list("spent_nano"))
    assert kept == [(7,)]


def minute_of(world: World, spent: int, *, count: int, ago: timedelta = timedelta(hours=5)) -> None:
    """Minutes in which the tenant has spent so much."""
    since = now().replace(second=0, microsecond=0) - ago
    SpendMinute.objects.using("system").bulk_create(
        SpendMinute(tenant=world.tenant, minute=since + timedelta(minutes=number), spent_nano=spent)
        for number in range(count)
    )


def id_of(ago: timedelta) -> UUID:
    """An id as the engine would have given it then."""
    line = engine_db.one("SELECT uuidv7(-%s::interval) AS id", ago)
    assert line
    found: UUID = line["id"]
    return found


def _first_wave(world: World, run_id: UUID) -> list[UUID]:
    advance(world.tenant.id, run_id)
    return [agent_run.id for agent_run in queued(world, run_id)]
