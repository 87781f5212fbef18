"""Maps, loops and sub-workflows as they are shown: all pages and documents of such a run."""

from uuid import UUID

import pytest

from agents_app.models import Agent
from tests.e2e.stories import echo, start
from tests.engine_driver import drain, run_of
from tests.integration.orchestrator.test_engine_calls import child_of, published
from tests.world import World

DOCUMENTS = ("", "/agent-runs", "/events", "/output", "/metrics", "/costs", "/mermaid")


@pytest.fixture
def nested(acme: World) -> UUID:
    """A loop whose rounds map over a list, and a sub-workflow."""
    published(acme, {"say": echo(value="hello")})
    each = {**echo(value="${item}"), "map": {"over": "${input.list}"}}
    loop = {"steps": {"each": each}, "until": "size(steps.each.output) == 2", "max_rounds": 2}
    steps = {"polish": {"loop": loop}, "sub": {"workflow": "check", "needs": ["polish"]}}
    return start(acme, steps, given={"list": [1, 2]})


def finish(world: World, run_id: UUID) -> None:
    drain(world, run_id)
    drain(world, child_of(world, run_id).id)
    assert drain(world, run_id).status == "completed"


def test_every_document_of_a_nested_run_answers(acme: World, nested: UUID) -> None:
    api = acme.client()
    for document in DOCUMENTS[:3]:
        assert api.get(f"/api/v1/runs/{nested}{document}").status_code == 200
    finish(acme, nested)

    answers = {path: api.get(f"/api/v1/runs/{nested}{path}") for path in DOCUMENTS}

    assert {path: answer.status_code for path, answer in answers.items()} == dict.fromkeys(
        DOCUMENTS, 200
    )
    steps = {step["name"]: step for step in answers[""].json()["steps"]}
    assert steps["polish"]["counts"] == {"completed": 2}
    assert steps["sub"]["status"] == "completed"


def test_page_of_a_nested_run_answers(acme: World, nested: UUID) -> None:
    page = f"/admin/orchestrator/run/{nested}/change/"
    assert acme.browser().get(page).status_code == 200
    finish(acme, nested)

    answer = acme.browser().get(page)

    assert answer.status_code == 200
    assert "polish[0].each[1]" in answer.content.decode()
    assert run_of(acme, nested).status == "completed"


def test_metrics_name_each_part_once_and_with_its_type(acme: World, nested: UUID) -> None:
    finish(acme, nested)

    tasks = acme.client().get(f"/api/v1/runs/{nested}/metrics").json()["tasks"]

    assert {task["name"]: task["task_type"] for task in tasks} == {
        "polish": "loop",
        "polish[0].each": "map",
        "polish[0].each[0]": "tool",
        "polish[0].each[1]": "tool",
        "sub": "workflow",
    }
    assert len(tasks) == 5


def test_metrics_of_a_saved_agent_in_a_loop_give_its_type(acme: World) -> None:
    with acme.scope():
        Agent.objects.create(slug="helper", type="tool", settings={"tool": "echo"})
    loop = {"steps": {"ask": {"agent": "helper", "arguments": {"value": 1}}}}
    loop |= {"until": "true", "max_rounds": 1}
    run_id = start(acme, {"polish": {"loop": loop}})
    drain(acme, run_id)

    tasks = acme.client().get(f"/api/v1/runs/{run_id}/metrics").json()["tasks"]

    assert [task["task_type"] for task in tasks] == ["loop", "tool"]


def test_status_counts_agents_and_not_what_stands_for_them(acme: World, nested: UUID) -> None:
    finish(acme, nested)

    status = acme.client().get("/api/v1/status").json()

    # Two items of the map, and the step of the sub-workflow.
    assert status["agents"]["executed"] == 3
