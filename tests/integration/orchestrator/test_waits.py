"""Why agent runs wait, as the API and the page of a run tell it."""

from typing import Any
from uuid import UUID

from orchestrator.models import TenantShare
from orchestrator.services.advance import advance
from tests.e2e.stories import echo, start
from tests.engine_driver import step_of
from tests.rest import get, made
from tests.world import World


def waiting(world: World, run_id: UUID, query: str = "") -> dict[str, Any]:
    rows = made(get(world.client(), f"runs/{run_id}/agent-runs{query}"))["results"]
    return {row["step"]: row["waiting"] and row["waiting"]["reason"] for row in rows}


def test_published_step_waits_for_a_worker_and_the_next_for_its_needs(acme: World) -> None:
    run_id = start(acme, {"a": echo(value=1), "b": echo(value=2, needs=["a"])})
    advance(acme.tenant.id, run_id)

    assert waiting(acme, run_id) == {"a": "worker", "b": None}
    (row,) = made(get(acme.client(), f"runs/{run_id}/agent-runs?waiting_for=worker"))["results"]
    assert row["waiting"]["gate"] == "a free worker"
    assert row["waiting"]["since"] == row["queued_at"]


def test_step_beyond_the_window_waits_for_its_run(acme: World) -> None:
    steps = {name: echo(value=1) for name in "abc"}
    run_id = start(acme, steps, strategy="adaptive", max_parallel=1)
    advance(acme.tenant.id, run_id)

    assert sorted(waiting(acme, run_id).values()) == ["max_parallel", "max_parallel", "worker"]
    assert len(waiting(acme, run_id, "?waiting_for=max_parallel")) == 2


def test_items_beyond_those_at_a_time_wait_for_their_map(acme: World) -> None:
    each = {**echo(value="${item}"), "map": {"over": "${input.list}", "parallel": 1}}
    run_id = start(acme, {"each": each}, given={"list": [1, 2]})
    advance(acme.tenant.id, run_id)

    second = step_of(acme, run_id, "each[1]")
    rows = made(get(acme.client(), f"runs/{run_id}/agent-runs"))["results"]
    (row,) = [row for row in rows if row["id"] == str(second.id)]
    assert row["waiting"]["reason"] == "max_parallel"
    assert row["waiting"]["gate"] == "a place among the items of `each`"


def test_step_beyond_the_tenants_share_waits_for_that(acme: World) -> None:
    with acme.scope():
        TenantShare.objects.using("system").create(tenant_id=acme.tenant.id, window=1)
    run_id = start(acme, {name: echo(value=1) for name in "abc"}, strategy="adaptive")
    advance(acme.tenant.id, run_id)

    assert sorted(waiting(acme, run_id).values()) == ["tenant_share", "tenant_share", "worker"]
    assert len(waiting(acme, run_id, "?waiting_for=tenant_share")) == 2
    summary = made(get(acme.client(), f"runs/{run_id}"))["steps"]
    reasons = {step["waiting"]["reason"] for step in summary if step["waiting"]}
    assert reasons == {"tenant_share", "worker"}
