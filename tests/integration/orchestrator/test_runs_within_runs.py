"""Maps, loops and sub-workflows as they are shown: all pages and documents of such a run."""

from uuid import UUID

import pytest

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
