"""Hosts whose clocks are wrong: only the database's counts."""

import os
import subprocess
import sys
from datetime import datetime, timedelta

import pytest

from costs.models import BudgetPeriod, CostEntry, TenantPrice
from orchestrator.chaos import crew
from orchestrator.models import Approval, RunEvent
from orchestrator.services import approvals
from orchestrator.services.approvals import decide
from tenants.kernel.clock import now
from tests.integration.costs.test_budgets import budget
from tests.integration.orchestrator.test_approvals import asking, person, the_approval
from tests.world import World

START = """
import sys, django
django.setup()
from tenants.models import Project
from tenants.scope import tenant_scope
from orchestrator.services.runs import start_run
from orchestrator.services.workflows import publish_spec
with tenant_scope(sys.argv[1]):
    step = {"agent": {"type": "tool", "tool": "echo"}, "arguments": {"value": 1}}
    spec = {"muster": 1, "name": "clock", "steps": {"a": step}}
    version = publish_spec(project=Project.objects.get(), spec=spec)
    run = start_run(workflow=version.workflow, version=version, input={})
    print(run.id, run.created_at.isoformat())
"""

CALL = """
import sys, django
django.setup()
from tenants.models import Project, Tenant
from tenants.scope import tenant_scope
from tests.e2e.stories import simulated, start
from tests.engine_driver import drain
from tests.world import World
with tenant_scope(sys.argv[1]):
    tenant, project = Tenant.objects.get(id=sys.argv[1]), Project.objects.get()
world = World(tenant=tenant, project=project, owner=None)
run_id = start(world, {"a": simulated("hello", output_tokens=10)})
print(drain(world, run_id).status)
"""


def told_by(world: World, program: str, *, wrong_by: float) -> str:
    """What a program says on a host whose clock is so many seconds ahead."""
    return subprocess.run(
        [sys.executable, "-c", program, str(world.tenant.id)],
        env={**os.environ, **crew._clock(wrong_by)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.mark.parametrize("wrong_by", [-3600.0, 3600.0])
def test_run_is_as_old_as_the_database_says(acme: World, wrong_by: float) -> None:
    told = told_by(acme, START, wrong_by=wrong_by)

    run_id, created_at = told.split()
    assert abs(datetime.fromisoformat(created_at) - now()) < timedelta(minutes=1)
    with acme.scope():
        (created,) = RunEvent.objects.filter(run=run_id)
        assert abs(created.at - now()) < timedelta(minutes=1)


@pytest.mark.parametrize("days", [-40, 40])
def test_money_is_booked_in_the_databases_month_by_the_price_of_its_day(
    acme: World, days: int
) -> None:
    for output_usd, begins_in in ((1, -100), (2, -20), (3, 20)):
        price = {"provider": "simulated", "model": "*", "input_usd": 1, "output_usd": output_usd}
        with acme.scope():
            TenantPrice.objects.create(
                **price, valid_from=(now() + timedelta(days=begins_in)).date()
            )
    budget(acme, 10**9, interval="month")

    told = told_by(acme, CALL, wrong_by=days * 86_400.0)

    assert told.split() == ["completed"]
    with acme.scope():
        line, period = CostEntry.objects.get(tenant=acme.tenant), BudgetPeriod.objects.get()
    assert abs(line.held_at - now()) < timedelta(minutes=1)
    assert (period.key, period.spent_nano) == (f"{line.held_at:%Y-%m}", line.amount_nano)
    assert line.unit_prices["output"] == "2.000000000"


def test_decision_in_time_holds_although_the_clock_here_is_ahead(
    acme: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = asking(acme, expires="1h")
    monkeypatch.setattr(approvals, "now", lambda: now() + timedelta(days=1))

    with acme.scope():
        asked = the_approval(acme, run_id)
        decide(asked, principal=person(acme, "admin"), decision="approve")

        assert Approval.objects.get(id=asked.id).status == "approved"
