"""Runs and the limits on their calls, against the real limiter and the simulated provider."""

from typing import Any
from uuid import UUID

import pytest

from costs.models import TenantPrice
from orchestrator.execution import engine_db, gateway
from orchestrator.limits import limits
from orchestrator.limits.scopes import forget
from orchestrator.models import Attempt, RateLimit
from orchestrator.services.control import pause_run, resume_run
from orchestrator.services.sweep import sweep
from tests.e2e.stories import simulated, start
from tests.engine_driver import drain, open_limiter, step_of
from tests.integration.costs.test_budgets import budget
from tests.integration.orchestrator.test_engine_budgets import make_due
from tests.integration.orchestrator.test_engine_control import act
from tests.world import World


@pytest.fixture(autouse=True)
def _open(acme: World, monkeypatch: pytest.MonkeyPatch) -> None:
    open_limiter()
    monkeypatch.setattr(gateway, "SHORT_WAIT_SECONDS", 0.0)


def limited(world: World, **fields: Any) -> None:
    facts = {"scope": "tenant", "unit": "requests", "period": "hour", "limit": 60, "capacity": 1}
    with world.scope():
        RateLimit.objects.create(**{**facts, **fields})
    forget()


def thought(**parameters: Any) -> dict[str, Any]:
    return simulated("think", **parameters)


def let_go_on(world: World, run_id: UUID, step: str) -> None:
    """As if the limit had been waited for."""
    with world.scope():
        RateLimit.objects.all().delete()
    forget()
    make_due(step_of(world, run_id, step).id)
    sweep()


def test_call_beyond_a_limit_waits_without_a_worker_and_is_no_attempt(acme: World) -> None:
    limited(acme)
    run_id = start(acme, {"a": thought(), "b": {**thought(), "needs": ["a"]}})

    drain(acme, run_id)

    a, b = (step_of(acme, run_id, name) for name in "ab")
    assert (a.status, b.status, b.waiting_for) == ("completed", "waiting", "rate_limited")
    assert "requests per hour" in b.waits_on
    assert b.lease_until is None
    assert 50 < (b.due_at - b.waiting_since).total_seconds() < 61
    let_go_on(acme, run_id, "b")
    assert drain(acme, run_id).status == "completed"
    with acme.scope():
        rows = Attempt.objects.filter(agent_run_id=b.id).order_by("number")
        assert [row.outcome for row in rows] == ["waited", "completed"]


def test_step_that_would_wait_too_long_fails_as_rate_limited(acme: World) -> None:
    limited(acme)
    steps = {"a": thought(), "b": {**thought(), "needs": ["a"], "max_wait": "5s"}}
    run_id = start(acme, steps)

    run = drain(acme, run_id)

    b = step_of(acme, run_id, "b")
    assert (run.status, b.status, b.error["code"]) == ("failed", "failed", "rate_limited")
    assert "requests per hour: it may wait for at most 5 s" in b.status_reason


def test_time_that_a_run_stood_still_is_not_held_against_its_waits(acme: World) -> None:
    limited(acme)
    steps = {"a": thought(), "b": {**thought(), "needs": ["a"], "max_wait": "2m"}}
    run_id = start(acme, steps)
    drain(acme, run_id)
    act(acme, run_id, pause_run)
    engine_db.one(
        "UPDATE agent_run SET waiting_since = now() - interval '1 day' WHERE run_id = %s"
        " AND step = 'b' RETURNING id",
        run_id,
        alias="system",
    )

    act(acme, run_id, resume_run)
    make_due(step_of(acme, run_id, "b").id)
    sweep()
    drain(acme, run_id)

    assert step_of(acme, run_id, "b").status == "waiting"


def test_call_that_no_limit_will_ever_let_through_fails_at_once(acme: World) -> None:
    limited(acme, unit="total_tokens", limit=100, capacity=100)
    run_id = start(acme, {"a": thought(max_output_tokens=500)})

    drain(acme, run_id)

    a = step_of(acme, run_id, "a")
    assert (a.status, a.error["code"]) == ("failed", "rate_limited")
    assert "takes more than it ever lets through" in a.status_reason


def test_what_was_not_used_is_given_back(acme: World) -> None:
    limited(acme, unit="output_tokens", limit=1000, capacity=1000)
    parameters = {"max_output_tokens": 900, "output_tokens": 10}
    steps = {f"s{n}": thought(**parameters) for n in range(5)}
    run_id = start(acme, steps, strategy="sequential")

    assert drain(acme, run_id).status == "completed"


def test_providers_wish_to_be_left_alone_is_waited_out_by_all(acme: World) -> None:
    # The operator's key is everybody's, and so is its pause: of a model that nobody else calls.
    agent = {"type": "prompt", "provider": "simulated", "model": f"of-{acme.tenant.slug}"}
    refuses = {"fail_attempts": ["rate_limited"], "retry_after_seconds": 30.0}
    first = start(acme, {"a": {**thought(**refuses), "agent": agent, "retry": {"attempts": 1}}})
    drain(acme, first)
    other = start(acme, {"b": {**thought(), "agent": agent}})

    drain(acme, other)

    a, b = step_of(acme, first, "a"), step_of(acme, other, "b")
    assert (a.status, a.waiting_for, b.status, b.waiting_for) == ("waiting", "rate_limited") * 2
    assert (a.waits_on, b.waits_on) == (f"{agent['provider']} {agent['model']} pause",) * 2
    assert 20 < (b.due_at - b.waiting_since).total_seconds() < 35


def test_call_that_no_budget_lets_through_takes_nothing_from_limits(acme: World) -> None:
    limited(acme)
    with acme.scope():
        TenantPrice.objects.create(
            provider="simulated", model="*", valid_from="2020-01-01", input_usd=0, output_usd=1
        )
    of_tenant = budget(acme, 0)
    run_id = start(acme, {"a": thought()})
    assert drain(acme, run_id).status == "budget_exceeded"

    with acme.scope():
        of_tenant.delete()
    limits().clear_budget(f"tenant:{acme.tenant.id}")
    assert drain(acme, start(acme, {"a": thought()})).status == "completed"


def test_budget_that_was_exhausted_a_moment_ago_is_asked_again_soon(acme: World) -> None:
    limits().flag_budget(f"tenant:{acme.tenant.id}", left_nano=-1)
    run_id = start(acme, {"a": thought()})

    drain(acme, run_id)

    a = step_of(acme, run_id, "a")
    assert (a.status, a.waiting_for) == ("waiting", "budget")
    limits().clear_budget(f"tenant:{acme.tenant.id}")
    make_due(a.id)
    sweep()
    assert drain(acme, run_id).status == "completed"
