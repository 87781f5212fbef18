"""Cancel, pause, resume and retry over REST, deadlines, and how waits are told."""

import threading
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connections
from django.http import HttpResponse

from orchestrator.models import AgentRun, Run
from orchestrator.services.advance import advance
from tenants.kernel.clock import now
from tenants.models import AuditEntry, Tenant, TenantStatus
from tenants.scope import as_operator
from tests.e2e.stories import echo, simulated, start
from tests.engine_driver import drain, run_of, step_of
from tests.factories import make_tenant
from tests.rest import get, made, post, problems, published, started
from tests.world import World

SLOW = {"strategy": "constant", "base": "1h", "cap": "1h", "jitter": False}
ACTIONS = ("cancel", "pause", "resume", "retry")


def overloaded(**fields: Any) -> dict[str, Any]:
    return {**simulated("x", failures={"overloaded": 1.0}), "retry": SLOW, **fields}


def act(world: World, run_id: object, action: str, **headers: str) -> HttpResponse:
    return post(world.client(), f"runs/{run_id}/{action}", **headers)


def shown(world: World, run_id: object, part: str = "") -> dict[str, Any]:
    return made(get(world.client(), f"runs/{run_id}{part}"))


def agent_runs(world: World, run_id: object, query: str) -> list[str]:
    rows = shown(world, run_id, f"/agent-runs?{query}")["results"]
    return [row["step"] for row in rows]


def failed(world: World) -> UUID:
    once = {"attempts": 1}
    run_id = start(world, {"a": echo(value=1), "b": overloaded(retry=once, needs=["a"])})
    assert drain(world, run_id).status == "failed"
    return run_id


def waiting(world: World) -> UUID:
    """A run whose step `a` waits for its second attempt, while two others are pending."""
    steps = {"a": overloaded(), "b": echo(value=1, needs=["a"]), "c": echo(value=2, needs=["b"])}
    run_id = start(world, steps)
    drain(world, run_id)
    return run_id


def suspend(world: World) -> None:
    with as_operator():
        rows = Tenant.objects.using("system").filter(id=world.tenant.id)
        rows.update(status=TenantStatus.SUSPENDED, suspended_reason="unpaid")


def test_run_is_paused_resumed_and_cancelled(acme: World) -> None:
    run_id = start(acme, {"a": echo(value=1)})

    paused, resumed, cancelled = (act(acme, run_id, name) for name in ("pause", "resume", "cancel"))

    assert [answer.status_code for answer in (paused, resumed, cancelled)] == [202, 202, 202]
    assert cancelled.headers["Location"].endswith(f"/api/v1/runs/{run_id}")
    assert (paused.json()["status"], resumed.json()["status"]) == ("paused", "pending")
    assert paused.json()["status_reason"] == "Paused by test"
    assert cancelled.json()["status_reason"] == "Is being cancelled: Cancelled by test"
    assert drain(acme, run_id).status == "cancelled"


def test_failed_run_is_taken_up_again(acme: World) -> None:
    run_id = failed(acme)

    answer = act(acme, run_id, "retry")

    assert (answer.status_code, answer.json()["status"]) == (202, "running")
    assert answer.json()["status_reason"] == "1 of 2 steps completed"
    assert answer.json()["finished_at"] is None


@pytest.mark.parametrize(
    ("action", "told"),
    [("cancel", "cancelled"), ("pause", "paused"), ("resume", "resumed"), ("retry", "retried")],
)
def test_state_that_forbids_it_is_named(acme: World, action: str, told: str) -> None:
    run_id = start(acme, {"a": echo(value=1)})
    drain(acme, run_id)

    answer = act(acme, run_id, action)

    assert (answer.status_code, answer.json()["code"]) == (409, "run_state")
    assert answer.json()["detail"] == f"A run that is completed cannot be {told}."


@pytest.mark.parametrize("action", ACTIONS)
def test_run_that_is_being_cancelled_is_left_to_end(acme: World, action: str) -> None:
    run_id = start(acme, {"a": echo(value=1)})
    act(acme, run_id, "pause")
    act(acme, run_id, "cancel")

    answer = act(acme, run_id, action)

    assert answer.status_code == 409
    assert "that is being cancelled" in answer.json()["detail"]


def test_of_two_resumes_at_once_one_is_refused(acme: World) -> None:
    run_id = start(acme, {"a": echo(value=1)})
    act(acme, run_id, "pause")
    clients, found = [acme.client(), acme.client()], []
    together = threading.Barrier(len(clients))

    def resume(client: Any) -> None:
        together.wait()
        found.append(post(client, f"runs/{run_id}/resume").status_code)
        for alias in connections:
            connections[alias].close()

    threads = [threading.Thread(target=resume, args=[client]) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(found) == [202, 409]


@pytest.mark.parametrize("action", ["resume", "retry"])
def test_suspended_tenant_sets_nothing_going_again(acme: World, action: str) -> None:
    run_id = failed(acme) if action == "retry" else start(acme, {"a": echo(value=1)})
    act(acme, run_id, "pause")
    client = acme.client()
    suspend(acme)

    answer = post(client, f"runs/{run_id}/{action}")

    assert (answer.status_code, answer.json()["code"]) == (403, "tenant_suspended")


@pytest.mark.parametrize("action", ["cancel", "pause"])
def test_suspended_tenant_may_still_stop_its_runs(acme: World, action: str) -> None:
    run_id, client = start(acme, {"a": echo(value=1)}), acme.client()
    suspend(acme)

    assert post(client, f"runs/{run_id}/{action}").status_code == 202


def test_repeated_pause_with_its_key_answers_the_same(acme: World) -> None:
    run_id, client = start(acme, {"a": echo(value=1)}), acme.client()

    first = post(client, f"runs/{run_id}/pause", idempotency_key="stop-1")
    second = post(client, f"runs/{run_id}/pause", idempotency_key="stop-1")

    assert (first.status_code, second.status_code) == (202, 202)
    assert second.headers["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize("action", ACTIONS)
def test_body_that_asks_for_something_is_refused(acme: World, action: str) -> None:
    run_id = start(acme, {"a": echo(value=1)})

    answer = post(acme.client(), f"runs/{run_id}/{action}", {"reason": "x"})

    assert problems(answer) == {("/reason", "unknown_field")}


def test_reading_scope_and_viewers_change_nothing(acme: World, live_db: None) -> None:
    run_id = start(acme, {"a": echo(value=1)})
    viewer = make_tenant("viewer", role="viewer")
    theirs = start(viewer, {"a": echo(value=1)})

    assert post(acme.client("runs:read"), f"runs/{run_id}/cancel").status_code == 403
    assert post(viewer.browser(), f"runs/{theirs}/cancel").status_code == 403


def test_each_change_is_in_the_audit_log(acme: World) -> None:
    run_id = start(acme, {"a": echo(value=1)})
    for action in ("pause", "resume", "cancel"):
        act(acme, run_id, action)

    with acme.scope():
        lines = AuditEntry.objects.filter(tenant=acme.tenant, object_id=str(run_id))
        told = list(lines.order_by("at").values_list("action", flat=True))
    assert told == ["run.created", "run.paused", "run.resumed", "run.cancelled"]


# Deadlines


def test_deadline_of_the_trigger_wins_over_the_workflows(acme: World) -> None:
    published(acme)
    body = {"workflow": "greet", "input": {"name": "Ada"}, "deadline": "1h30m"}

    run = made(post(acme.client(), "runs", body))

    row = run_of(acme, run["id"])
    assert (row.deadline_at - row.created_at) // timedelta(minutes=1) == 90
    assert shown(acme, run["id"])["deadline_at"] == run["deadline_at"]


def test_retried_run_has_its_own_deadline_once_more(acme: World) -> None:
    run_id = failed(acme)
    with acme.scope():
        Run.objects.filter(id=run_id).update(deadline_seconds=600)

    act(acme, run_id, "retry")

    run = run_of(acme, run_id)
    assert timedelta(minutes=9) < run.deadline_at - now() < timedelta(minutes=11)


def test_workflows_deadline_is_kept_with_the_run(acme: World) -> None:
    run_id = start(acme, {"a": echo(value=1)}, deadline="10m")

    assert run_of(acme, run_id).deadline_seconds == 600


@pytest.mark.parametrize(
    ("deadline", "code"),
    [
        *[("0s", "min_value"), ("0h0m0s", "min_value"), ("-5m", "duration"), ("soon", "duration")],
        *[("9000h", "too_long"), ("99999h", "too_long"), (600, "invalid"), (None, "null")],
        *[("", "blank"), ("2026-01-01T00:00:00Z", "duration")],
    ],
)
def test_deadline_that_is_none_is_refused(acme: World, deadline: object, code: str) -> None:
    published(acme)

    answer = post(
        acme.client(), "runs", {"workflow": "greet", "input": {"name": "A"}, "deadline": deadline}
    )

    assert problems(answer) == {("/deadline", code)}


# How it stands


def test_waiting_step_says_for_what_and_until_when(acme: World) -> None:
    run_id = waiting(acme)
    until = step_of(acme, run_id, "a").due_at

    run = shown(acme, run_id)

    assert run["status_reason"] == "1 of 3 steps waits"
    assert [step["status"] for step in run["steps"]] == ["waiting", "pending", "pending"]
    assert run["steps"][0]["counts"] == {"waiting": 1}
    told = run["steps"][0]["waiting"]
    assert (told["reason"], told["until"]) == ("retry", f"{until:%Y-%m-%dT%H:%M:%S.%fZ}")


def test_attempts_tell_their_errors(acme: World) -> None:
    run_id = waiting(acme)

    row = shown(acme, run_id, "/agent-runs?waiting_for=retry")["results"][0]

    assert row["waiting"]["reason"] == "retry"
    (attempt,) = row["attempts"]
    assert (attempt["number"], attempt["outcome"], attempt["worker"]) == (1, "failed", "w1")
    assert attempt["error"]["message"]


def test_agent_runs_are_filtered(acme: World) -> None:
    run_id = waiting(acme)

    assert agent_runs(acme, run_id, "waiting_for=retry") == ["a"]
    assert agent_runs(acme, run_id, "waiting_for=delay") == []
    assert agent_runs(acme, run_id, "waiting_for=delay&waiting_for=retry") == ["a"]
    assert agent_runs(acme, run_id, "status=pending") == ["b", "c"]
    assert agent_runs(acme, run_id, "status=pending&waiting_for=retry") == []


@pytest.mark.parametrize("query", ["status=lost", "waiting_for=godot", "waiting=retry"])
def test_filter_that_is_unknown_is_refused(acme: World, query: str) -> None:
    run_id = start(acme, {"a": echo(value=1)})

    assert get(acme.client(), f"runs/{run_id}/agent-runs?{query}").status_code == 400


def test_paused_run_tells_what_is_still_at_work(acme: World) -> None:
    run_id = start(acme, {"a": echo(value=1), "b": echo(value=2)})
    advance(acme.tenant.id, run_id)
    with acme.scope():
        row = AgentRun.objects.filter(run_id=run_id, step="a")
        row.update(status="running", lease_until=row.get().created_at)

    answer = act(acme, run_id, "pause")

    assert answer.json()["status_reason"] == "Paused by test; 1 step is still at work"


def test_list_tells_why_too(acme: World) -> None:
    published(acme)
    begun = started(acme)["id"]
    waits = str(waiting(acme))

    rows = made(get(acme.client(), "runs"))["results"]

    reasons = {row["id"]: row["status_reason"] for row in rows}
    assert reasons == {begun: "Nothing has begun yet", waits: "1 of 3 steps waits"}
