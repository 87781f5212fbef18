from datetime import timedelta
from typing import Any

from django.urls import reverse

from orchestrator.models import AgentRun, Attempt, LlmCall, Run, RunEvent
from tests.rest import get, made
from tests.run_rows import make_run, published, wide_spec
from tests.world import World

DONE = {"outline": "completed", "facts": "completed", "quotes": "failed"}
DONE |= {"draft": "skipped", "review": "skipped"}
SYSTEM = {"cpu_percent": 12.5, "memory_percent": 1.5, "memory_used_mb": 88.0}


def metrics(world: World, run: Run) -> dict[str, Any]:
    return made(get(world.client(), f"runs/{run.pk}/metrics"))


def tasks(world: World, run: Run) -> dict[str, dict[str, Any]]:
    return {task["name"]: task for task in metrics(world, run)["tasks"]}


def failed_run(world: World) -> Run:
    return make_run(world, published(world), DONE, status="failed")


def test_document_has_every_field_and_adds_up(acme: World) -> None:
    run = failed_run(acme)

    document = metrics(acme, run)

    assert (document["session_id"], document["status"]) == (str(run.pk), "failed")
    assert document["duration_s"] > 20
    assert document["start_time"].endswith("Z")
    assert document["end_time"] > document["start_time"]
    assert [task["name"] for task in document["tasks"]] == list(DONE)
    assert document["total_cost_usd"] == "0.000973"
    assert document["total_tokens"] == {
        "prompt_tokens": 3 * 412,
        "completion_tokens": 2 * 187,
        "cached_tokens": 0,
        "reasoning_tokens": 0,
        "total_tokens": 3 * 412 + 2 * 187,
    }


def test_task_tells_its_times_tokens_and_worth(acme: World) -> None:
    run = failed_run(acme)
    with acme.scope():
        call = LlmCall.objects.get(run=run, agent_run__step="facts")
        call.ended_at = call.created_at + timedelta(seconds=11)
        call.save()
        Attempt.objects.filter(agent_run__step="facts", agent_run__run=run).delete()
        row = AgentRun.objects.get(run=run, step="facts")
        Attempt.objects.create(
            agent_run=row,
            number=1,
            worker=row.worker,
            outcome="completed",
            system=SYSTEM,
            started_at=row.started_at,
            finished_at=row.finished_at,
        )

    task = tasks(acme, run)["facts"]

    assert (task["task_type"], task["role"], task["model"]) == ("prompt", "executor", "sim")
    assert (task["status"], task["attempts"], task["cost_usd"]) == ("completed", 1, "0.0004865")
    assert task["execution"]["duration_ms"] == 3100.0
    assert task["execution"]["waiting_ms"] == 0
    assert task["performance"] == {
        "tokens_per_second": 17.0,
        "cost_per_token": "0.000000812186978",
        "efficiency_score": 89.9,
        "throughput_tier": "low",
    }
    assert task["system"] == {"worker": "agents-1@host", **SYSTEM}


def test_what_is_not_known_is_null(acme: World) -> None:
    run = failed_run(acme)

    task = tasks(acme, run)["draft"]

    assert task["execution"]["start_time"] is None
    assert task["execution"]["waiting_ms"] is None
    assert set(task["performance"].values()) == {None}
    assert set(task["system"].values()) == {None}


def test_waits_are_summed_up_by_reason(acme: World) -> None:
    run = make_run(acme, published(acme, wide_spec(1, 1)), "pending", status="pending")
    with acme.scope():
        row = AgentRun.objects.get(run=run)
        told = [
            ("queued", 0, {}),
            ("running", 1, {}),
            ("waiting", 2, {"reason": "retry"}),
            ("queued", 5, {}),
            ("running", 5.5, {}),
            ("waiting", 6, {"reason": "rate_limited"}),
            ("queued", 16, {}),
            ("running", 16, {}),
            ("completed", 17, {}),
        ]
        for kind, seconds, data in told:
            RunEvent.objects.create(
                tenant_id=acme.tenant.pk,
                run=run,
                agent_run_id=row.pk,
                at=run.created_at + timedelta(seconds=seconds),
                type=f"agent.{kind}",
                data=data,
            )

    (task,) = tasks(acme, run).values()

    assert task["execution"]["queued_ms"] == 1500.0
    assert task["execution"]["waiting_ms"] == 13_000.0
    assert task["execution"]["waiting_reasons_ms"] == {"rate_limited": 10_000.0, "retry": 3_000.0}


def test_tokens_of_a_running_step_come_from_its_calls(acme: World) -> None:
    run = make_run(
        acme,
        published(acme),
        {**dict.fromkeys(DONE, "pending"), "outline": "running"},
        status="running",
    )
    with acme.scope():
        LlmCall.objects.filter(run=run).update(status="closed", output_tokens=7, cost_nano=10)

    document = metrics(acme, run)

    assert document["end_time"] is None
    assert document["total_tokens"]["completion_tokens"] == 7
    assert document["total_cost_usd"] == "0.00000001"


def test_page_of_the_run_gives_the_same_document(acme: World) -> None:
    run = failed_run(acme)
    url = reverse("admin:orchestrator_run_metrics", args=[run.pk])

    page = acme.browser().get(reverse("admin:orchestrator_run_change", args=[run.pk]))
    answer = acme.browser().get(url)

    assert url in page.content.decode()
    assert "attachment" in answer.headers["Content-Disposition"]
    assert answer.json() == metrics(acme, run)
