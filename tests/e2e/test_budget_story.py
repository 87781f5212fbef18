"""A tenant with little money and a rate limit, two workers, and a death among them."""

from collections import Counter
from datetime import date
from pathlib import Path
from uuid import UUID

import pytest

from costs.models import Budget, BudgetPeriod, CostEntry, TenantPrice
from orchestrator.models import LlmCall, RateLimit, Run
from orchestrator.services.control import resume_run
from tests import workers
from tests.e2e.stories import ended, simulated, start
from tests.eventually import eventually
from tests.world import World

QUICK = {"MUSTER_LEASE_SECONDS": "3", "MUSTER_SWEEP_SECONDS": "0.5"}
CALLS, USD = 200, 10**9
# A hundred tokens at fifty dollars a million: half a cent, and never more.
COST = USD // 200
MONEY = USD // 2


@pytest.mark.usefixtures("live_db")
@pytest.mark.parametrize(
    "period", ["second", pytest.param("minute", marks=pytest.mark.load)], ids=str
)
def test_run_stops_at_its_budget_and_goes_on_after_a_raise(
    acme: World, log_dir: Path, period: str
) -> None:
    given(acme, period)
    patience = 120 if period == "second" else 900
    with workers.control("control-m", log_dir, **QUICK), workers.agents("m2", log_dir, **QUICK):
        with workers.agents("m1", log_dir, **QUICK) as victim:
            each = {**thought(), "map": {"over": "${input.items}"}, "max_wait": "30m"}
            run_id = start(acme, {"each": each}, given={"items": list(range(CALLS))})
            eventually(lambda: closed(acme) >= 25, within=patience)
            victim.kill()
        run = ended(acme, run_id, within=patience)

        assert run.status == "budget_exceeded"
        assert "0.5 USD of 0.5 USD are spent" in run.status_reason
        assert money(acme) == (MONEY, 0, 0)
        assert ledger(acme) == MONEY
        paid = closed(acme)

        with acme.scope():
            Budget.objects.update(limit_nano=4 * USD)
            resume_run(Run.objects.get(id=run_id))
        eventually(lambda: is_live(acme, run_id))
        run = ended(acme, run_id, within=patience)

    assert run.status == "completed"
    assert closed(acme) == CALLS > paid
    spent, held, overrun = money(acme)
    assert (held, overrun) == (0, 0)
    assert spent == ledger(acme) == run.cost_nano == COST * (CALLS + in_doubt(acme))
    assert set(Counter(turns(acme)).values()) == {1}


def given(world: World, period: str) -> None:
    with world.scope():
        TenantPrice.objects.create(
            provider="simulated",
            model="*",
            valid_from=date(2020, 1, 1),
            input_usd=0,
            output_usd=50,
        )
        Budget.objects.create(name="Trial", scope="tenant", interval="month", limit_nano=MONEY)
        RateLimit.objects.create(scope="tenant", unit="requests", period=period, limit=20)


def thought() -> dict[str, object]:
    return simulated("${item}", latency=0.3, output_tokens=100, max_output_tokens=100)


def is_live(world: World, run_id: UUID) -> bool:
    with world.scope():
        return Run.objects.get(id=run_id).status == "running"


def closed(world: World) -> int:
    with world.scope():
        return LlmCall.objects.filter(status="closed").count()


def in_doubt(world: World) -> int:
    with world.scope():
        return LlmCall.objects.filter(status="in_doubt").count()


def turns(world: World) -> list[tuple[UUID, int]]:
    with world.scope():
        return list(LlmCall.objects.filter(status="closed").values_list("agent_run_id", "turn"))


def ledger(world: World) -> int:
    with world.scope():
        return sum(CostEntry.objects.values_list("amount_nano", flat=True))


def money(world: World) -> tuple[int, int, int]:
    with world.scope():
        period = BudgetPeriod.objects.get()
    return period.spent_nano, period.held_nano, period.overrun_nano
