"""What budgets hold, in the database that keeps them."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from django.db import IntegrityError, connection, transaction
from uuid_utils.compat import uuid7

from costs.models import Budget, BudgetPeriod
from orchestrator.execution import engine_db
from tests.world import World

PROJECT, WORKFLOW, RUN = uuid7(), uuid7(), uuid7()
_HOLD = """
SELECT * FROM muster_hold(%s, %s::bigint[], %s::uuid[], %s::uuid[], %s::text[], %s::text[],
                          %s::bigint[], %s::bigint[])
"""
_SETTLE = "SELECT muster_settle_holds(%s::uuid[], %s::bigint[], %s::bigint[])"
_ENTER = "SELECT set_config('app.tenant_id', %s, true)"


def budget(world: World, limit: int, *, scope: str = "tenant", **fields: Any) -> Budget:
    with world.scope():
        return Budget.objects.create(
            **{"name": scope, "scope": scope, "limit_nano": limit, "interval": "total", **fields}
        )


def hold(world: World, amount: int, *, bound: int | None = None, agent: str = "") -> Any:
    return hold_all(world, (amount, bound or amount, agent))[0]


def hold_all(world: World, *calls: tuple[int, int, str]) -> list[Any]:
    """Of calls of one run at once: estimate, bound and agent of each."""
    estimates, bounds, agents = map(list, zip(*calls, strict=True))
    count = len(calls)
    of_run = [[PROJECT] * count, [WORKFLOW] * count, [f"{{{RUN}}}"] * count]
    facts = [world.tenant.id, list(range(count)), *of_run, agents, estimates, bounds]
    with engine_db.transaction() as open_connection:
        engine_db.rows(open_connection, _ENTER, [str(world.tenant.id)])
        return engine_db.rows(open_connection, _HOLD, facts)


def settle(world: World, held: Any, *, spent: int) -> None:
    count = len(held["periods"])
    with engine_db.transaction() as open_connection:
        engine_db.rows(open_connection, _ENTER, [str(world.tenant.id)])
        facts = [held["periods"], [held["amount"]] * count, [spent] * count]
        engine_db.rows(open_connection, _SETTLE, facts)


def state(world: World, of: Budget) -> tuple[int, int, int]:
    with world.scope():
        period = BudgetPeriod.objects.get(budget=of)
    return period.spent_nano, period.held_nano, period.overrun_nano


def test_call_is_held_in_every_budget_that_applies(acme: World) -> None:
    applying = [
        budget(acme, 100),
        budget(acme, 90, scope="project", scope_id=PROJECT),
        budget(acme, 80, scope="workflow", scope_id=WORKFLOW),
        budget(acme, 70, scope="run", scope_id=RUN),
        budget(acme, 60, scope="agent", agent="writer"),
    ]
    others = [
        budget(acme, 1, scope="project", scope_id=uuid7()),
        budget(acme, 1, scope="agent", agent="judge"),
        budget(acme, 1, interval="day", is_enabled=False),
    ]

    held = hold(acme, 25, agent="writer")

    assert held["verdict"] == "held"
    assert [state(acme, each) for each in applying] == [(0, 25, 0)] * 5
    with acme.scope():
        assert not BudgetPeriod.objects.filter(budget__in=others).exists()


def test_budgets_of_overlapping_periods_hold_together(acme: World) -> None:
    daily, monthly, total = (
        budget(acme, limit, interval=interval, name=interval)
        for interval, limit in (("day", 30), ("month", 100), ("total", 50))
    )
    settle(acme, hold(acme, 30), spent=30)

    refused = hold(acme, 1)
    assert refused["refusal"]["name"] == "day"
    set_limit(acme, daily, 99)
    settle(acme, hold(acme, 20), spent=20)

    assert hold(acme, 1)["refusal"]["name"] == "total"
    assert [state(acme, each) for each in (daily, monthly, total)] == [(50, 0, 0)] * 3


def test_without_budgets_nothing_is_kept(acme: World, globex: World) -> None:
    budget(globex, 1)

    held = hold(acme, 25, bound=50)

    assert (held["verdict"], held["periods"], held["amount"]) == ("held", [], 25)


def test_hard_budgets_hold_the_bound_and_soft_ones_the_estimate(acme: World) -> None:
    soft = budget(acme, 10, is_hard=False)

    assert hold(acme, 25, bound=50)["amount"] == 25
    budget(acme, 100, scope="project", scope_id=PROJECT)

    assert hold(acme, 25, bound=50)["amount"] == 50
    assert state(acme, soft) == (0, 75, 0)


def test_what_does_not_fit_is_held_nowhere(acme: World) -> None:
    wide, narrow = budget(acme, 100), budget(acme, 30, scope="project", scope_id=PROJECT)
    hold(acme, 20)

    refused = hold(acme, 20)

    assert (refused["verdict"], refused["periods"]) == ("busy", [])
    assert refused["refusal"]["name"] == "project"
    assert (state(acme, wide), state(acme, narrow)) == ((0, 20, 0), (0, 20, 0))


def test_budget_is_busy_while_holds_may_come_back_and_exhausted_once_spent(acme: World) -> None:
    budget(acme, 30)
    first = hold(acme, 20)
    assert hold(acme, 20)["verdict"] == "busy"
    settle(acme, first, spent=5)
    second = hold(acme, 20)
    assert second["verdict"] == "held"
    settle(acme, second, spent=20)

    refused = hold(acme, 20)

    assert refused["verdict"] == "exhausted"
    assert refused["refusal"]["spent_nano"] == 25
    assert hold(acme, 5)["verdict"] == "held"


def test_calls_that_are_held_together_take_in_turn_what_is_left(acme: World) -> None:
    of_tenant = budget(acme, 100)
    of_writer = budget(acme, 40, scope="agent", agent="writer")
    soft = budget(acme, 1, scope="project", scope_id=PROJECT, is_hard=False)

    held = hold_all(
        acme,
        (30, 30, "writer"),
        (30, 30, "writer"),  # busy: the first may give some back
        (50, 50, "writer"),  # exhausted: more than there ever is
        (60, 60, "judge"),
        (20, 20, "judge"),  # busy in the tenant's
        (10, 10, "judge"),
    )

    assert [one["number"] for one in held] == [0, 1, 2, 3, 4, 5]
    verdicts = [one["verdict"] for one in held]
    assert verdicts == ["held", "busy", "exhausted", "held", "busy", "held"]
    assert [len(one["periods"]) for one in held] == [3, 0, 0, 2, 0, 2]
    names = [one["refusal"] and one["refusal"]["name"] for one in held]
    assert names == [None, "agent", "agent", None, "tenant", None]
    states = [state(acme, each) for each in (of_tenant, of_writer, soft)]
    assert states == [(0, 100, 0), (0, 30, 0), (0, 100, 0)]


def test_answer_beyond_its_hold_is_an_overrun_and_closes_the_budget(acme: World) -> None:
    of_tenant = budget(acme, 30)

    settle(acme, hold(acme, 20), spent=45)

    assert state(acme, of_tenant) == (45, 0, 15)
    assert hold(acme, 1)["verdict"] == "exhausted"


def test_limit_is_raised_and_lowered_at_any_time(acme: World) -> None:
    of_tenant = budget(acme, 30)
    held = hold(acme, 20)

    set_limit(acme, of_tenant, 5)
    assert state(acme, of_tenant) == (0, 20, 15)
    assert hold(acme, 1)["verdict"] == "busy"
    settle(acme, held, spent=4)
    assert state(acme, of_tenant) == (4, 0, 0)
    assert hold(acme, 2)["verdict"] == "exhausted"

    set_limit(acme, of_tenant, 50)
    assert hold(acme, 46)["verdict"] == "held"


def set_limit(world: World, of: Budget, limit: int) -> None:
    with world.scope():
        Budget.objects.filter(id=of.id).update(limit_nano=limit)


def test_what_a_budget_is_for_never_changes(acme: World) -> None:
    of_tenant = budget(acme, 30)

    for change in ({"interval": "day"}, {"time_zone": "Asia/Tokyo"}, {"agent": "x"}):
        with acme.scope(), pytest.raises(IntegrityError), transaction.atomic():
            Budget.objects.filter(id=of_tenant.id).update(**change)


@pytest.mark.usefixtures("live_db")
@pytest.mark.parametrize(
    ("interval", "zone", "at", "key"),
    [
        ("day", "UTC", datetime(2026, 3, 1, 0, 30, tzinfo=UTC), "2026-03-01"),
        ("day", "America/New_York", datetime(2026, 3, 1, 0, 30, tzinfo=UTC), "2026-02-28"),
        ("month", "America/New_York", datetime(2026, 3, 1, 0, 30, tzinfo=UTC), "2026-02"),
        ("month", "Pacific/Auckland", datetime(2026, 3, 31, 23, 0, tzinfo=UTC), "2026-04"),
        ("total", "UTC", datetime(2026, 3, 1, tzinfo=UTC), "total"),
    ],
)
def test_period_is_that_of_the_budgets_time_zone(
    interval: str, zone: str, at: datetime, key: str
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT muster_period_key(%s, %s, %s)", [interval, zone, at])
        assert cursor.fetchone() == (key,)


def test_call_belongs_to_the_period_of_its_hold(acme: World) -> None:
    monthly = budget(acme, 30, interval="month")
    held = hold(acme, 20)
    with acme.scope():
        BudgetPeriod.objects.filter(budget=monthly).update(key="2020-01")
    assert hold(acme, 30)["verdict"] == "held"

    settle(acme, held, spent=7)
    set_limit(acme, monthly, 99)

    with acme.scope():
        rows = BudgetPeriod.objects.filter(budget=monthly).order_by("key")
        assert [(row.limit_nano, row.spent_nano, row.held_nano) for row in rows] == [
            (30, 7, 0),
            (99, 0, 30),
        ]


def test_many_at_once_never_pass_the_limit_nor_wait_for_each_other_for_good(acme: World) -> None:
    limit, amount = 1000, 30
    of_tenant = budget(acme, limit)
    # Made in another order than they are named in.
    budget(acme, 10_000, scope="run", scope_id=RUN)
    of_project = budget(acme, limit, scope="project", scope_id=PROJECT)

    def work(number: int) -> int:
        spent = 0
        for turn in range(20):
            held = hold(acme, amount)
            if held["verdict"] == "held":
                cost = (number * 7 + turn) % amount
                settle(acme, held, spent=cost)
                spent += cost
        return spent

    with ThreadPoolExecutor(8) as threads:
        spent = sum(threads.map(work, range(8)))

    assert state(acme, of_tenant) == state(acme, of_project) == (spent, 0, 0)
    assert limit - amount < spent <= limit


def scopes_of(scope: str) -> dict[str, UUID | str]:
    return {"scope_id": uuid7()} if scope == "tenant" else {"agent": "x"}


@pytest.mark.parametrize("scope", ["tenant", "project", "workflow", "run"])
def test_budget_is_for_one_thing(acme: World, scope: str) -> None:
    with pytest.raises(IntegrityError):
        budget(acme, 1, scope=scope, **scopes_of(scope))


def test_two_budgets_of_one_scope_and_period_are_refused(acme: World, globex: World) -> None:
    budget(acme, 1)
    budget(globex, 1)
    budget(acme, 1, interval="day")

    with pytest.raises(IntegrityError):
        budget(acme, 2)
