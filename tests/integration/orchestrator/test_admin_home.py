"""The first page: what money there is, and what it is going to be."""

import re
from datetime import timedelta

from django.db import connection
from django.test.utils import CaptureQueriesContext
from uuid_utils.compat import uuid7

from costs.models import Budget
from tenants.kernel.clock import now
from tests.integration.costs.test_budgets import PROJECT, WORKFLOW, budget, hold, settle
from tests.ledger import charge
from tests.run_rows import make_run, published
from tests.world import World


def with_a_run(world: World) -> World:
    """Past the first steps, which come instead of figures."""
    make_run(world, published(world), "pending", status="running")
    return world


def page(world: World) -> str:
    return world.browser().get("/admin/").content.decode()


def named(html: str) -> list[str]:
    return re.findall(r"<strong>(budget \w+)</strong>", html)


def spend(world: World, *days_ago: int, **facts: object) -> None:
    for days in days_ago:
        charge(world, held_at=now() - timedelta(days=days), amount_nano=10**9, **facts)


def month(world: World, name: str, **fields: object) -> Budget:
    return budget(world, 10**12, name=f"budget {name}", interval="month", **fields)


def test_month_is_shown_with_its_forecast(acme: World) -> None:
    with_a_run(acme)
    assert "too early to tell" in page(acme)

    spend(acme, *range(28))

    shown = page(acme)
    assert f"Forecast for {now():%B}" in shown
    assert "too early to tell" not in shown


def test_budgets_nearest_to_their_limits_are_shown(acme: World, globex: World) -> None:
    with_a_run(acme)
    budget(acme, 100 * 10**9, name="budget wide")
    budget(acme, 10 * 10**9, name="budget narrow", scope="project", scope_id=PROJECT)
    budget(acme, 8 * 10**9, name="budget agent", scope="agent", agent="writer")
    budget(acme, 0, name="budget closed", scope="workflow", scope_id=uuid7())
    budget(acme, 0, name="budget off", interval="day", is_enabled=False)
    budget(acme, 0, name="budget cap", scope="run", scope_id=uuid7())
    budget(globex, 0, name="budget strangers")
    settle(acme, hold(acme, 4 * 10**9, agent="writer"), spent=3 * 10**9)
    hold(acme, 2 * 10**9)

    shown = page(acme)

    assert named(shown) == ["budget closed", "budget narrow", "budget agent"]
    assert "$3.00 spent, $2.00 held of $10.00" in shown


def test_number_of_queries_does_not_depend_on_the_budgets(acme: World) -> None:
    with_a_run(acme)
    client = acme.browser()
    counts = []
    for number in (1, 5):
        for _ in range(number):
            month(acme, "one", scope="workflow", scope_id=uuid7())
            month(acme, "one", scope="agent", agent=f"a-{uuid7()}")
        with CaptureQueriesContext(connection) as home:
            client.get("/admin/")
        with CaptureQueriesContext(connection) as budgets:
            client.get("/admin/costs/budget/")
        counts.append((len(home), len(budgets)))

    assert counts[0] == counts[1]


def test_forecast_of_a_budget_is_that_of_what_it_is_for(acme: World) -> None:
    spend(acme, *range(28), workflow_id=WORKFLOW)
    spend(acme, *range(28), agent="writer")
    rows = {
        "tenant": month(acme, "all"),
        "workflow": month(acme, "one", scope="workflow", scope_id=WORKFLOW),
        "other": month(acme, "other", scope="workflow", scope_id=uuid7()),
        "agent": month(acme, "agent", scope="agent", agent="writer"),
    }

    listed = acme.client().get("/api/v1/budgets").json()["results"]

    told = {row["id"]: row["period"]["forecast_usd"] for row in listed}
    of = {name: told[str(row.id)] for name, row in rows.items()}
    assert of["workflow"] == of["agent"]
    assert float(of["tenant"]) == 2 * float(of["workflow"]) >= 0
    assert of["other"] is None
