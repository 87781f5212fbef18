from urllib.parse import quote

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from orchestrator.models import AgentRun, Run, RunEvent
from tests.rest import get, made, post, problems, published, started
from tests.world import World

ADA = {"workflow": "greet", "input": {"name": "Ada"}}


@pytest.fixture
def greeting(acme: World) -> World:
    published(acme)
    return acme


def finish(world: World, run_id: str, *, output: object, cost_nano: int = 0) -> None:
    with world.scope():
        row = Run.objects.filter(id=run_id)
        row.update(status="running", started_at=row.get().created_at)
        row.update(
            status="completed",
            output=output,
            cost_nano=cost_nano,
            finished_at=row.get().created_at,
        )


def found(world: World, query: str) -> list[str]:
    return [run["id"] for run in made(get(world.client(), f"runs?{query}"))["results"]]


def test_run_is_accepted_with_its_address(greeting: World) -> None:
    answer = post(greeting.client(), "runs", {**ADA, "priority": 9, "metadata": {"team": "a"}})

    assert answer.status_code == 202
    run = answer.json()
    assert answer.headers["Location"].endswith(f"/api/v1/runs/{run['id']}")
    assert (run["status"], run["priority"], run["metadata"]) == ("pending", 9, {"team": "a"})
    assert run["created_at"].endswith("Z")


def test_run_is_capped_as_it_was_asked_for(greeting: World) -> None:
    client = greeting.client()

    run = made(post(client, "runs", {**ADA, "max_cost_usd": "0.50"}))

    assert run["max_cost_usd"] == "0.5"
    shown = made(get(client, f"runs/{run['id']}"))
    assert (shown["max_cost_usd"], shown["cost_usd"]) == ("0.5", "0")


@pytest.mark.parametrize("amount", [0.5, "-1", "1e3", "0.0000000001", "9999999999", "", "٣"])
def test_cap_that_is_no_amount_is_refused(greeting: World, amount: object) -> None:
    answer = post(greeting.client(), "runs", {**ADA, "max_cost_usd": amount})

    assert answer.status_code == 400
    assert [loc for loc, _ in problems(answer)] == ["/max_cost_usd"]


def test_repeated_trigger_is_one_run(greeting: World) -> None:
    client = greeting.client()

    first = made(post(client, "runs", ADA, idempotency_key="order-7"))
    second = made(post(client, "runs", ADA, idempotency_key="order-7"))

    assert first["id"] == second["id"]
    assert len(found(greeting, "")) == 1


def test_input_that_does_not_fit_is_told_at_its_place(greeting: World) -> None:
    answer = post(greeting.client(), "runs", {"workflow": "greet", "input": {}})

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")
    assert problems(answer) == {("/input/name", "required")}


def test_every_wrong_field_is_told(greeting: World) -> None:
    body = {"workflow": 5, "input": None, "priority": 11, "version": "1", "metadata": [], "x": 1}

    answer = post(greeting.client(), "runs", body)

    assert {loc for loc, _ in problems(answer)} == {f"/{name}" for name in body}


def test_unpublished_workflow_is_a_conflict(acme: World) -> None:
    made(post(acme.client(), "workflows", {"name": "draft", "steps": {"a": {"delay": "1s"}}}))

    answer = post(acme.client(), "runs", {"workflow": "draft"})

    assert (answer.status_code, answer.json()["code"]) == (409, "not_published")


@pytest.mark.parametrize(
    "body", [{"workflow": "nothing"}, {**ADA, "project": "nothing"}, {**ADA, "version": 7}]
)
def test_unknown_reference_is_404(greeting: World, body: dict) -> None:
    assert post(greeting.client(), "runs", body).status_code == 404


def test_run_may_pin_a_version(greeting: World) -> None:
    run = started(greeting, version=1)

    assert run["workflow"]["version"] == 1


def test_workflow_of_two_projects_needs_the_project(greeting: World) -> None:
    client = greeting.client()
    made(post(client, "projects", {"slug": "second"}))
    workflow = made(get(client, "workflows"))["results"][0]
    spec = made(get(client, f"workflows/{workflow['id']}"))["spec"]
    made(post(client, "workflows?project=second", spec))

    assert problems(post(client, "runs", ADA)) == {("/project", "ambiguous")}
    assert post(client, "runs", {**ADA, "project": "main"}).status_code == 202


def test_list_is_filtered(greeting: World) -> None:
    one = started(greeting, metadata={"team": "a", "try": 2})["id"]
    two = started(greeting, metadata={"team": "b"})["id"]
    finish(greeting, one, output="done")
    created = quote(made(get(greeting.client(), f"runs/{two}"))["created_at"])

    assert found(greeting, "status=completed") == [one]
    assert found(greeting, "status=completed&status=pending") == [two, one]
    assert found(greeting, "metadata.team=b") == [two]
    assert found(greeting, "metadata.team=a&metadata.try=2") == [one]
    assert found(greeting, f"created_after={created}") == [two]
    assert found(greeting, f"created_before={created}") == [one]
    assert found(greeting, "workflow=greet&project=main") == [two, one]
    assert found(greeting, "workflow=other") == []
    assert found(greeting, "project=other") == []


@pytest.mark.parametrize(
    "query",
    [
        *("status=lost", "status=%00", "created_after=yesterday", "limit=0", "limit=x"),
        *("cursor=x", "cursor=cD1ub3BlCg==", "workflow=%00", "metadata.a=%00", "statsu=failed"),
    ],
)
def test_bad_filter_is_refused(greeting: World, query: str) -> None:
    answer = get(greeting.client(), f"runs?{query}")

    assert answer.status_code == 400
    assert {loc for loc, _ in problems(answer)} == {f"/{query.partition('=')[0]}"}


def test_pages_follow_each_other(greeting: World) -> None:
    newest_first = [started(greeting)["id"] for _ in range(5)][::-1]

    page, seen = made(get(greeting.client(), "runs?limit=2")), []
    seen += page["results"]
    while page["next"]:
        page = made(get(greeting.client(), page["next"]))
        seen += page["results"]

    assert [run["id"] for run in seen] == newest_first
    assert page["previous"]


def test_lists_take_as_many_queries_for_many_as_for_one(greeting: World) -> None:
    client, run = greeting.client(), started(greeting)

    def count(path: str) -> int:
        with CaptureQueriesContext(connection) as queries:
            made(get(client, path))
        return len(queries)

    paths = ("runs", f"runs/{run['id']}/agent-runs", f"runs/{run['id']}/events")
    made(get(client, "runs"))  # the key's time of last use is written once a minute
    few = [count(path) for path in paths]
    for _ in range(5):
        started(greeting)
    assert [count(path) for path in paths] == few
    assert max(few) <= 8


def test_detail_sums_up_the_steps(greeting: World) -> None:
    run_id = started(greeting)["id"]
    with greeting.scope():
        AgentRun.objects.filter(run_id=run_id, step="hello").update(
            cost_nano=4_100_000, input_tokens=10, output_tokens=5, cached_tokens=2
        )

    run = made(get(greeting.client(), f"runs/{run_id}"))

    assert run["steps"][0] == {
        "name": "hello",
        "status": "pending",
        "counts": {"pending": 1},
        "waiting": None,
        "cost_usd": "0.0041",
    }
    assert run["cost_usd"] == "0.0041"
    assert run["tokens"] == {"input": 10, "output": 5, "cached": 2, "reasoning": 0, "total": 15}


def test_agent_runs_come_in_the_authors_order(greeting: World) -> None:
    run = started(greeting)

    rows = made(get(greeting.client(), f"runs/{run['id']}/agent-runs"))["results"]

    assert [row["step"] for row in rows] == ["hello", "both"]
    assert rows[0]["tokens"]["total"] == 0


def test_output_waits_for_the_end(greeting: World) -> None:
    run = started(greeting)

    answer = get(greeting.client(), f"runs/{run['id']}/output")

    assert (answer.status_code, answer.json()["code"]) == (409, "run_not_finished")


@pytest.mark.parametrize("output", [{"title": "T", "n": 1}, [1, 2], "text", None, 0, False])
def test_output_is_the_json_document(greeting: World, output: object) -> None:
    run = started(greeting)
    finish(greeting, run["id"], output=output)

    answer = get(greeting.client(), f"runs/{run['id']}/output")

    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json() == output


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("# Hello\n", "# Hello\n\n"),
        ({"n": [1], "title": "T"}, "## n\n\n```json\n[\n  1\n]\n```\n\n## title\n\nT\n"),
    ],
)
def test_output_is_markdown_on_request(greeting: World, output: object, text: str) -> None:
    run = started(greeting)
    finish(greeting, run["id"], output=output)
    address = f"runs/{run['id']}/output"

    by_header = get(greeting.client(), address, accept="text/markdown")
    by_query = get(greeting.client(), f"{address}?format=md")

    assert by_header.headers["Content-Type"].startswith("text/markdown")
    assert by_header.content.decode() == by_query.content.decode() == text


def test_mermaid_shows_the_states(greeting: World) -> None:
    run = started(greeting)

    graph = get(greeting.client(), f"runs/{run['id']}/mermaid").content.decode()

    assert graph.startswith("flowchart")
    assert "pending" in graph


def test_costs_need_their_scope(greeting: World) -> None:
    run = started(greeting)

    assert get(greeting.client("runs:read"), f"runs/{run['id']}/costs").status_code == 403
    assert made(get(greeting.client(), f"runs/{run['id']}/costs"))["results"] == []


def event(world: World, run_id: str, kind: str, **data: object) -> None:
    with world.scope():
        RunEvent.objects.create(tenant=world.tenant, run_id=run_id, type=kind, data=data)


def test_events_are_the_envelope_with_money_in_usd(greeting: World) -> None:
    run_id = started(greeting)["id"]
    event(greeting, run_id, "agent.completed", step="hello", attempt=1, cost_nano=400_000)

    *_, last = made(get(greeting.client(), f"runs/{run_id}/events"))["results"]

    assert set(last) == {"id", "type", "timestamp", "data"}
    assert last["type"] == "agent.completed"
    assert last["data"] == {
        "run_id": run_id,
        "step": "hello",
        "attempt": 1,
        "cost_usd": "0.0004",
    }


def test_events_go_on_after_the_last_one(greeting: World) -> None:
    run_id = started(greeting)["id"]
    for number in range(4):
        event(greeting, run_id, f"test.{number}")

    page = made(get(greeting.client(), f"runs/{run_id}/events?limit=2"))
    rest = made(get(greeting.client(), page["next"]))
    none = made(get(greeting.client(), f"runs/{run_id}/events?after={rest['results'][-1]['id']}"))

    types = [row["type"] for row in page["results"] + rest["results"]]
    assert types == ["run.created", "test.0", "test.1", "test.2"]
    assert [row["type"] for row in none["results"]] == ["test.3"]


@pytest.mark.parametrize("after", ["-1", "x", str(2**63), "%00"])
def test_bad_place_in_the_history_is_refused(greeting: World, after: str) -> None:
    run = started(greeting)

    assert get(greeting.client(), f"runs/{run['id']}/events?after={after}").status_code == 400
