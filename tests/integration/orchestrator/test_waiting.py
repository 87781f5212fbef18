"""Waits summed up: which gates hold what, in the API and on the pages."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext

from costs.models import Budget
from orchestrator.execution import presence
from orchestrator.execution.claims import claim
from orchestrator.limits.scopes import forget
from orchestrator.models import (
    AgentRun,
    ClusterLoad,
    RateLimit,
    Run,
    TenantShare,
    WorkerProcess,
)
from orchestrator.services.advance import advance
from orchestrator.services.control import pause_run
from tenants.kernel.clock import now
from tenants.models import Project, Tenant
from tests.e2e.stories import echo, start
from tests.engine_driver import queued, step_of
from tests.integration.orchestrator.test_engine_control import act
from tests.rest import get, made
from tests.run_rows import make_run, published
from tests.world import World

LIMIT = "openai gpt-4o requests per minute"
BUDGET = 'tenant budget "November" (month)'


@pytest.fixture(autouse=True)
def nothing_dealt(live_db: None) -> Iterator[None]:
    """What is dealt out holds for all tenants, and so for the tests that follow."""
    yield
    for model in (ClusterLoad, TenantShare, WorkerProcess):
        model.objects.using("system").all().delete()


def waiting(world: World, query: str = "", client: Client | None = None) -> dict[str, Any]:
    return made(get(client or world.client(), f"status/waiting{query}"))


def gates(world: World, **options: Any) -> dict[str, tuple[int, int]]:
    """How many agent runs of how many runs each gate holds."""
    found = waiting(world, **options)["gates"]
    return {each["gate"]: (each["agent_runs"], each["runs"]) for each in found}


def hold(world: World, run: Run, step: str, *, reason: str, gate: str, **fields: Any) -> None:
    facts = {"waiting_since": now() - timedelta(minutes=5), "due_at": now() + timedelta(minutes=1)}
    with world.scope():
        rows = AgentRun.objects.filter(run=run, step=step)
        rows.update(status="waiting", waiting_for=reason, waits_on=gate, **{**facts, **fields})


def begin(world: World, steps: dict[str, Any], **header: Any) -> UUID:
    run_id = start(world, steps, **header)
    advance(world.tenant.id, run_id)
    return run_id


def test_waits_are_summed_up_by_gate(acme: World) -> None:
    runs = [make_run(acme, published(acme), "pending", status="running") for _ in range(2)]
    for run in runs:
        hold(acme, run, "facts", reason="rate_limited", gate=LIMIT)
    hold(acme, runs[0], "quotes", reason="rate_limited", gate=LIMIT)
    begun = now() - timedelta(hours=1)
    hold(acme, runs[1], "quotes", reason="budget", gate=BUDGET, waiting_since=begun)

    found = waiting(acme)

    assert found["tenant"]["slug"] == acme.tenant.slug
    assert found["cluster"] is None
    assert found["agent_runs"] == 4
    first, second = found["gates"]
    assert (first["gate"], first["reason"]) == (LIMIT, "rate_limited")
    assert (first["agent_runs"], first["runs"]) == (3, 2)
    assert (second["gate"], second["agent_runs"]) == (BUDGET, 1)
    assert second["longest_run"] == str(runs[1].pk)
    row = step_of(acme, runs[1].pk, "quotes")
    assert second["since"] == f"{begun:%Y-%m-%dT%H:%M:%S.%f}Z"
    assert second["until"] == f"{row.due_at:%Y-%m-%dT%H:%M:%S.%f}Z"


def test_what_is_due_waits_for_workers_shares_and_places(acme: World) -> None:
    TenantShare.objects.using("system").create(tenant_id=acme.tenant.id, window=3)
    begin(acme, {name: echo(value=1) for name in "abc"}, max_parallel=1, strategy="adaptive")
    each = {**echo(value="${item}"), "map": {"over": "${input.list}", "parallel": 1}}
    run_id = start(acme, {"each": each}, given={"list": [1, 2, 3]})
    advance(acme.tenant.id, run_id)
    begin(acme, {name: echo(value=1) for name in "abc"})

    found = gates(acme)

    assert found == {
        "a free worker": (3, 3),
        "a place among the agents of its run": (2, 1),
        "a place among the items of its map": (2, 1),
        "a place in the tenant's share of the workers": (2, 1),
    }


def test_runs_that_wait_as_a_whole_are_told_too(acme: World) -> None:
    Tenant.objects.using("system").filter(id=acme.tenant.id).update(max_runs=1)
    begin(acme, {"a": echo(value=1)})
    for_turn = begin(acme, {"a": echo(value=1)})
    start(acme, {"a": echo(value=1)})

    found = gates(acme)

    assert found["its turn: as many runs are under way as may be"] == (0, 1)
    assert found["a control worker to begin it"] == (0, 1)
    run = made(get(acme.client(), f"runs/{for_turn}"))
    assert run["status_reason"] == "It waits for its turn: as many runs are under way as may be"
    assert (run["waiting"]["reason"], run["waiting"]["since"]) == ("turn", run["created_at"])


def test_paused_run_waits_to_be_resumed_with_all_that_was_due(acme: World) -> None:
    run_id = begin(acme, {name: echo(value=1) for name in "ab"})
    act(acme, run_id, pause_run)

    assert gates(acme) == {"its run to be resumed": (2, 1)}
    (row, _) = made(get(acme.client(), f"runs/{run_id}/agent-runs"))["results"]
    assert row["waiting"]["reason"] == "paused"
    run = made(get(acme.client(), f"runs/{run_id}"))
    assert run["waiting"]["gate"] == "somebody to resume it"
    assert run["created_at"] < min(run["waiting"]["since"], row["waiting"]["since"])


def test_wait_that_is_over_in_a_paused_run_is_one_for_its_resumption(acme: World) -> None:
    run = make_run(acme, published(acme), "pending", status="paused")
    past, coming = now() - timedelta(seconds=5), now() + timedelta(hours=1)
    hold(acme, run, "facts", reason="rate_limited", gate=LIMIT, due_at=past)
    hold(acme, run, "quotes", reason="budget", gate=BUDGET, due_at=coming)
    hold(acme, run, "draft", reason="approval", gate="", due_at=past, started_at=past)

    assert gates(acme) == {
        "its run to be resumed": (1, 1),
        BUDGET: (1, 1),
        "a person's decision": (1, 1),
    }
    rows = made(get(acme.client(), f"runs/{run.pk}/agent-runs"))["results"]
    told = {row["step"]: row["waiting"]["gate"] for row in rows if row["waiting"]}
    assert told == {
        "facts": "its run to be resumed",
        "quotes": BUDGET,
        "draft": "a person's decision",
    }


def test_ended_runs_and_strangers_count_for_nothing(acme: World, globex: World) -> None:
    make_run(acme, published(acme), "completed", status="completed")
    run = make_run(globex, published(globex), "pending", status="running")
    hold(globex, run, "facts", reason="rate_limited", gate=LIMIT)

    assert gates(acme) == {}
    page = acme.browser().get("/admin/waiting/", {"reason": "rate_limited", "name": LIMIT})
    assert "Nothing waits at the moment" in page.content.decode()
    assert LIMIT not in page.content.decode()


def test_key_of_a_project_sees_that_project(acme: World) -> None:
    begin(acme, {"a": echo(value=1)})
    with acme.scope():
        other = Project.objects.create(slug="other", name="Other")
    key = acme.key("runs:read", project=other)

    client = Client(headers={"authorization": f"Bearer {key}"})

    assert gates(acme, client=client) == {}
    assert gates(acme) == {"a free worker": (1, 1)}


def test_operator_sees_all_tenants_and_their_workers(acme: World, globex: World) -> None:
    worker = f"agents@{acme.tenant.slug}"
    for _ in range(3):
        presence.count_message()
    presence.here(worker, slots=4)
    presence.here(worker, slots=4)
    TenantShare.objects.using("system").create(tenant_id=acme.tenant.id, window=2)
    run_id = begin(acme, {name: {**echo(value=1), "priority": 9} for name in "abc"})
    claim(acme.tenant.id, queued(acme, run_id)[0].id, worker=worker, lease=timedelta(seconds=30))
    begin(globex, {"a": {**echo(value=1), "priority": 0}})

    found = waiting(acme, "?tenants=all", acme.operator())

    # Other tests' tenants count too.
    ours = {acme.tenant.slug: "acme", globex.tenant.slug: "globex"}
    held = {
        (ours[each["tenant"]["slug"]], each["reason"]): each["agent_runs"]
        for each in found["gates"]
        if each["tenant"]["slug"] in ours
    }
    assert held == {("acme", "worker"): 1, ("acme", "tenant_share"): 1, ("globex", "worker"): 1}
    cluster = found["cluster"]
    assert (cluster["slots"], cluster["busy"], cluster["free"]) == (4, 1, 3)
    assert cluster["queued"]["agents.high"] >= 1
    assert cluster["queued"]["agents.low"] >= 1
    (told,) = cluster["workers"]
    assert (told["name"], told["busy"], told["handled"]) == (worker, 1, 3)
    (demand,) = [one for one in cluster["tenants"] if one["tenant"]["slug"] == acme.tenant.slug]
    assert [demand[name] for name in ("at_work", "queued", "lined_up", "share")] == [1, 1, 1, 2]


def test_nobody_else_sees_all_tenants(acme: World) -> None:
    assert get(acme.client(), "status/waiting?tenants=all").status_code == 403
    assert get(acme.browser(), "status/waiting?tenants=all").status_code == 403
    assert "All tenants" not in acme.browser().get("/admin/waiting/").content.decode()


def test_page_lists_the_runs_behind_a_gate(acme: World) -> None:
    runs = [make_run(acme, published(acme), "pending", status="running") for _ in range(2)]
    hold(acme, runs[0], "facts", reason="rate_limited", gate=LIMIT)
    hold(acme, runs[1], "facts", reason="budget", gate=BUDGET)

    page = acme.browser().get("/admin/waiting/", {"reason": "budget", "name": BUDGET})

    text = page.content.decode()
    assert LIMIT in text
    assert f"/admin/orchestrator/run/{runs[1].pk}/change/" in text
    assert f"/admin/orchestrator/run/{runs[0].pk}/change/" not in text


def test_page_of_a_gate_that_holds_nothing_any_more_is_no_error(acme: World) -> None:
    page = acme.browser().get("/admin/waiting/", {"reason": "budget\x00", "name": "'--"})

    assert page.status_code == 200


def test_first_page_names_the_gates(acme: World) -> None:
    run = make_run(acme, published(acme), "pending", status="running")
    hold(acme, run, "facts", reason="rate_limited", gate=LIMIT)

    page = acme.browser().get("/admin/").content.decode()

    assert f"1 agent for {LIMIT}" in page
    assert "/admin/waiting/?reason=rate_limited" in page


def test_operators_page_shows_workers_and_leads_to_tenants(acme: World, globex: World) -> None:
    presence.here("agents@one", slots=4)
    begin(globex, {"a": echo(value=1)})

    page = acme.operator().get("/admin/waiting/").content.decode()

    assert "agents@one" in page
    assert f'name="tenant" value="{globex.tenant.id}"' in page


def test_number_of_queries_does_not_depend_on_what_waits(acme: World) -> None:
    client = acme.operator()
    counts = []
    for _ in range(2):
        begin(acme, {name: echo(value=1) for name in "abc"})
        run = make_run(acme, published(acme), "pending", status="running")
        hold(acme, run, "facts", reason="rate_limited", gate=f"limit {run.pk}")
        with (
            CaptureQueriesContext(connection) as own,
            CaptureQueriesContext(connections["system"]) as all_of_them,
        ):
            assert client.get("/admin/waiting/?reason=worker").status_code == 200
        counts.append((len(own), len(all_of_them)))

    assert counts[0] == counts[1]


def test_gate_leads_to_its_limit_or_its_budget(acme: World) -> None:
    run = make_run(acme, published(acme), "pending", status="running")
    with acme.scope():
        limit = RateLimit.objects.create(scope="tenant", unit="requests", period="hour", limit=9)
        money = Budget.objects.create(name='So "quoted"', scope="tenant", limit_nano=1)
    forget()
    rate = "tenant's own requests per hour"
    named = f'the budget "So "quoted"" (tenant, month {now():%Y-%m})'
    hold(acme, run, "facts", reason="rate_limited", gate=rate)
    hold(acme, run, "quotes", reason="budget", gate=named)
    client = acme.browser()

    at_limit = client.get("/admin/waiting/", {"reason": "rate_limited", "name": rate})
    at_budget = client.get("/admin/waiting/", {"reason": "budget", "name": named})

    assert f"/admin/orchestrator/ratelimit/#limit-{limit.pk}" in at_limit.content.decode()
    assert f"/admin/costs/budget/{money.pk}/change/" in at_budget.content.decode()
    assert "the budget &quot;So" in at_budget.content.decode()


def test_gate_that_has_let_go_says_so(acme: World) -> None:
    page = acme.browser().get("/admin/waiting/", {"reason": "budget", "name": BUDGET})

    assert "Nothing waits for that any more" in page.content.decode()
