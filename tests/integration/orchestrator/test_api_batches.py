"""Batches over REST: all or nothing, one status, one cost."""

import time
from typing import Any
from uuid import UUID

import pytest
from django.http import HttpResponse

from costs.models import TenantPrice
from orchestrator.dispatch import canvas
from orchestrator.models import AgentRun, Run, RunBatch
from orchestrator.services import batches
from tenants.models import AuditEntry, Project
from tests.e2e.stories import simulated
from tests.engine_driver import drain, run_of
from tests.integration.orchestrator.test_api_run_control import suspend
from tests.rest import get, made, post, problems, published
from tests.world import World

GREET = {"workflow": "greet", "input": {"name": "Ada"}}


def batch(world: World, *runs: Any, **fields: Any) -> HttpResponse:
    return post(world.client(), "runs/batch", {"runs": list(runs), **fields})


def shown(world: World, found: dict[str, Any]) -> dict[str, Any]:
    return made(get(world.client(), f"runs/batches/{found['id']}"))


def test_batch_starts_its_runs_in_their_order(acme: World) -> None:
    published(acme)

    answer = batch(
        acme,
        {**GREET, "priority": 9},
        {**GREET, "input": {"name": "Bob"}, "metadata": {"n": 2}},
        {**GREET, "version": 1, "deadline": "5m"},
        name="nightly",
    )

    assert answer.status_code == 202
    found = answer.json()
    assert answer.headers["Location"] == found["links"]["self"]
    assert (found["name"], found["status"], found["size"]) == ("nightly", "pending", 3)
    assert found["counts"] == {"pending": 3}
    first, second, third = found["runs"]
    assert (first["priority"], second["metadata"], third["priority"]) == (9, {"n": 2}, 5)
    assert third["deadline_at"]
    assert {run["batch"] for run in found["runs"]} == {found["id"]}
    assert run_of(acme, UUID(second["id"])).input == {"name": "Bob"}
    with acme.scope():
        assert AgentRun.objects.filter(run__batch=found["id"]).count() == 6


def test_batch_has_one_status_and_one_cost(acme: World) -> None:
    with acme.scope():
        TenantPrice.objects.create(
            provider="simulated", model="sim", valid_from="2026-01-01", input_usd=1, output_usd=1
        )
    published(acme)
    client = acme.client()
    steps = {"ask": simulated("Hi"), "fail": simulated("no", failures={"bad_request": 1.0})}
    spec = {"muster": 1, "name": "ask", "failure": {"mode": "partial"}, "steps": steps}
    made(post(client, f"workflows/{made(post(client, 'workflows', spec))['id']}/publish"))
    found = made(batch(acme, GREET, {"workflow": "ask"}))
    ids = [UUID(run["id"]) for run in found["runs"]]

    drain(acme, ids[0])
    half = shown(acme, found)
    drain(acme, ids[1])
    whole = shown(acme, found)

    assert (half["status"], half["finished_at"]) == ("running", None)
    assert half["started_at"]
    assert whole["status"] == "partially_completed"
    assert whole["finished_at"] >= whole["started_at"]
    assert whole["cost_usd"] == made(get(client, f"runs/{ids[1]}"))["cost_usd"] != "0"


def test_every_problem_of_every_run_comes_at_once_and_nothing_starts(acme: World) -> None:
    published(acme)
    post(
        acme.client(), "workflows", {"muster": 1, "name": "draft", "steps": {"a": {"delay": "1s"}}}
    )

    answer = batch(
        acme,
        GREET,
        {**GREET, "input": {}},
        {**GREET, "priority": 11, "nonsense": 1},
        {"workflow": "nobody"},
        {**GREET, "version": 7},
        {"workflow": "draft"},
        {},
        {**GREET, "input": {"name": "A" * 30}, "deadline": "2h"},
    )

    assert problems(answer) == {
        ("/runs/1/input/name", "required"),
        ("/runs/2/priority", "max_value"),
        ("/runs/2/nonsense", "unknown_field"),
        ("/runs/3/workflow", "not_found"),
        ("/runs/4/version", "not_found"),
        ("/runs/5/workflow", "not_published"),
        ("/runs/6/workflow", "required"),
        ("/runs/7/input/name", "maxLength"),
    }
    places = [error["loc"] for error in answer.json()["errors"]]
    assert [place.split("/")[2] for place in places] == list("12234567")
    with acme.scope():
        assert not Run.objects.exists()
        assert not RunBatch.objects.exists()


@pytest.mark.parametrize(
    ("runs", "place", "code"),
    [
        ([], "/runs", "min_length"),
        ([GREET] * 1001, "/runs", "max_length"),
        ("x", "/runs", "not_a_list"),
        ([1], "/runs/0", "not_a_dict"),
        (None, "/runs", "null"),
    ],
)
def test_list_that_is_none_is_refused(acme: World, runs: Any, place: str, code: str) -> None:
    published(acme)

    assert problems(post(acme.client(), "runs/batch", {"runs": runs})) == {(place, code)}


def test_batch_of_too_many_steps_is_refused(acme: World, monkeypatch: pytest.MonkeyPatch) -> None:
    published(acme)
    monkeypatch.setattr(batches, "MAX_STEPS", 3)

    assert problems(batch(acme, GREET, GREET)) == {("/runs", "too_many_steps")}
    assert batch(acme, GREET).status_code == 202


def test_runs_of_a_batch_are_listed(acme: World) -> None:
    published(acme)
    found = made(batch(acme, GREET, GREET))
    other = made(post(acme.client(), "runs", GREET))

    rows = made(get(acme.client(), f"runs?batch={found['id']}"))["results"]

    assert {row["id"] for row in rows} == {run["id"] for run in found["runs"]}
    assert other["batch"] is None
    assert get(acme.client(), "runs?batch=x").status_code == 400
    listed = made(get(acme.client(), "runs/batches"))["results"]
    assert [row["id"] for row in listed] == [found["id"]]


def test_cancelled_batch_ends_its_runs(acme: World) -> None:
    published(acme)
    found = made(batch(acme, GREET, GREET))
    done, left = (UUID(run["id"]) for run in found["runs"])
    drain(acme, done)
    client = acme.client()

    answer = post(client, f"runs/batches/{found['id']}/cancel")
    again = post(client, f"runs/batches/{found['id']}/cancel")
    run = drain(acme, left)

    assert answer.status_code == 202, answer.content
    assert (again.status_code, again.json()["code"]) == (409, "batch_state")
    assert again.json()["detail"] == "A batch that is being cancelled cannot be cancelled."
    assert run.status == "cancelled"
    assert shown(acme, found)["status"] == "partially_completed"
    ended = post(client, f"runs/batches/{found['id']}/cancel").json()
    assert ended["detail"] == "A batch that is partially completed cannot be cancelled."
    with acme.scope():
        lines = AuditEntry.objects.filter(tenant=acme.tenant, object_id=found["id"])
        told = list(lines.order_by("at").values_list("action", flat=True))
    assert told == ["run_batch.created", "run_batch.cancelled"]


def test_suspended_tenant_starts_no_batch(acme: World) -> None:
    published(acme)
    client = acme.client()
    suspend(acme)

    answer = post(client, "runs/batch", {"runs": [GREET]})

    assert (answer.status_code, answer.json()["code"]) == (403, "tenant_suspended")


def test_narrowed_key_sees_the_batches_of_its_project_alone(acme: World) -> None:
    published(acme)
    with acme.scope():
        other = Project.objects.create(slug="other", name="Other")
    found = made(batch(acme, GREET))
    path = f"runs/batches/{found['id']}"

    def status(project: Project) -> int:
        key = acme.key(project=project)
        headers = {"authorization": f"Bearer {key}"}
        return get(type(acme.client())(headers=headers), path).status_code

    assert (status(acme.project), status(other)) == (200, 404)


def test_repeat_with_its_key_starts_nothing_more(acme: World) -> None:
    published(acme)
    client, body = acme.client(), {"runs": [GREET]}

    one, two = (post(client, "runs/batch", body, idempotency_key="b") for _ in range(2))

    assert one.json()["id"] == two.json()["id"]


def test_a_thousand_runs_start_together_and_are_told_of_in_one_pipeline(
    acme: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(acme)
    pipelines: list[int] = []
    publish = canvas.publish_advances
    monkeypatch.setattr(
        "orchestrator.services.runs.publish_advances",
        lambda tenant, ids: (pipelines.append(len(ids)), publish(tenant, ids)),
    )
    begun = time.perf_counter()

    answer = batch(acme, *[GREET] * 1000)

    took = time.perf_counter() - begun
    assert answer.status_code == 202
    assert pipelines == [1000]
    assert took < 20
    with acme.scope():
        assert Run.objects.filter(batch=answer.json()["id"]).count() == 1000
