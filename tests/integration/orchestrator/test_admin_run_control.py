"""The buttons of a run's page."""

import re
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from costs.models import Budget
from orchestrator.models import AgentRun, Run
from tenants.kernel.models import uuid7
from tests.factories import make_tenant
from tests.integration.costs.test_budgets import budget, hold, settle
from tests.integration.orchestrator.test_api_run_control import suspend
from tests.run_rows import make_run, published
from tests.world import World


def page(world: World, run: Run) -> str:
    url = reverse("admin:orchestrator_run_change", args=[run.pk])
    return world.browser().get(url).content.decode()


def buttons(html: str) -> list[str]:
    return re.findall(r"/run/[-0-9a-f]{36}/(cancel|pause|resume|retry)/", html)


def press(world: World, run: Run, action: str, **options: Any) -> HttpResponse:
    url = reverse(f"admin:orchestrator_run_{action}", args=[run.pk])
    return world.browser().post(url, **options)


def look(world: World, run: Run) -> Run:
    with world.scope():
        return Run.objects.get(pk=run.pk)


@pytest.mark.parametrize(
    ("status", "states", "shown"),
    [
        ("pending", "pending", ["pause", "cancel"]),
        ("running", "running", ["pause", "cancel"]),
        ("paused", "ready", ["resume", "cancel"]),
        ("completed", "completed", []),
        ("partially_completed", "failed", ["retry"]),
        ("failed", "failed", ["retry"]),
        ("cancelled", "cancelled", ["retry"]),
        ("budget_exceeded", "budget_exceeded", ["resume"]),
    ],
)
def test_buttons_are_those_that_are_possible_now(
    acme: World, status: str, states: str, shown: list[str]
) -> None:
    run = make_run(acme, published(acme), states, status=status)

    assert buttons(page(acme, run)) == shown


def test_run_that_is_being_cancelled_has_no_buttons(acme: World) -> None:
    run = make_run(acme, published(acme), "running", status="running")
    press(acme, run, "cancel")

    html = page(acme, run)

    assert buttons(html) == []
    assert "Is being cancelled" in html


def test_pause_and_resume(acme: World) -> None:
    run = make_run(acme, published(acme), "pending", status="running")

    answer = press(acme, run, "pause", follow=True)

    assert "The run is paused" in answer.content.decode()
    assert look(acme, run).status == "paused"
    press(acme, run, "resume")
    assert look(acme, run).status == "running"


def test_cancel_asks_first(acme: World) -> None:
    run = make_run(acme, published(acme), "pending", status="running")
    url = reverse("admin:orchestrator_run_cancel", args=[run.pk])

    asked = acme.browser().get(url).content.decode()

    assert "Cancel the run" in asked
    assert look(acme, run).stop_wanted == ""
    press(acme, run, "cancel")
    assert look(acme, run).stop_wanted == "cancelled"


def test_retry_takes_up_what_failed(acme: World) -> None:
    run = make_run(acme, published(acme), "failed", status="failed")

    press(acme, run, "retry")

    assert look(acme, run).status == "running"


def test_button_pressed_too_late_says_why(acme: World) -> None:
    run = make_run(acme, published(acme), "completed", status="completed")

    told = press(acme, run, "pause", follow=True).content.decode()
    url = reverse("admin:orchestrator_run_cancel", args=[run.pk])

    assert "A run that is completed cannot be paused." in told
    assert (
        "cannot be cancelled any more: it is completed" in acme.browser().get(url).content.decode()
    )


def test_suspended_tenant_is_told_so(acme: World) -> None:
    run = make_run(acme, published(acme), "ready", status="paused")
    suspend(acme)

    assert "is suspended: unpaid" in press(acme, run, "resume", follow=True).content.decode()
    assert look(acme, run).status == "paused"


def test_viewer_has_no_buttons_and_may_press_none(live_db: None) -> None:
    viewer = make_tenant("viewer", role="viewer")
    run = make_run(viewer, published(viewer), "running", status="running")

    assert buttons(page(viewer, run)) == []
    for action in ("cancel", "pause", "resume", "retry"):
        assert press(viewer, run, action).status_code == 403
    assert look(viewer, run).status == "running"


def test_stranger_finds_no_button(acme: World, globex: World) -> None:
    run = make_run(acme, published(acme), "running", status="running")

    for action in ("cancel", "pause", "resume", "retry"):
        assert press(globex, run, action).status_code == 404
    assert look(acme, run).stop_wanted == ""


def test_buttons_work_by_post_and_with_a_token_only(acme: World) -> None:
    run = make_run(acme, published(acme), "running", status="running")
    url = reverse("admin:orchestrator_run_pause", args=[run.pk])
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(acme.owner)

    assert acme.browser().get(url).status_code == 405
    assert strict.post(url).status_code == 403
    assert look(acme, run).status == "running"


def test_lost_workers_and_further_attempts_are_told(acme: World) -> None:
    run = make_run(acme, published(acme), "running", status="running")
    with acme.scope():
        row = AgentRun.objects.filter(run=run, step="outline")
        row.update(attempt=2, lost_count=1)
        lost = {"code": "worker_lost", "message": "Worker w1 stopped renewing its lease."}
        began = row.get().started_at
        row.get().attempts.create(
            number=1, worker="w1", outcome="lost", error=lost, started_at=began, finished_at=began
        )

    html = page(acme, run)

    assert "attempt 2, 1 worker lost" in html
    assert "Worker w1 stopped renewing its lease." in html


def test_exhausted_run_leads_to_its_budget_and_is_resumed(acme: World) -> None:
    run = make_run(acme, published(acme), "budget_exceeded", status="budget_exceeded")
    kept = budget(acme, 10**9, name="Whole")
    elsewhere = budget(acme, 0, scope="project", scope_id=uuid7(), name="Elsewhere")
    settle(acme, hold(acme, 9 * 10**8), spent=9 * 10**8)
    assert hold(acme, 2 * 10**8)["verdict"] == "exhausted"

    exhausted = page(acme, run)
    with acme.scope():
        Budget.objects.filter(pk=kept.pk).update(limit_nano=2 * 10**9)
    raised = page(acme, run)

    assert reverse("admin:costs_budget_change", args=[kept.pk]) in exhausted
    assert str(elsewhere.pk) not in exhausted
    assert "Nothing refuses it any more" in raised
    assert buttons(raised) == ["resume"]
