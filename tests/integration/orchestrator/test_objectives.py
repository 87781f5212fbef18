"""Runs that begin with an objective: planned, shown, carried out, and kept as a workflow."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
from django.core.management import call_command
from llmock.scenarios import Reply
from llmock.testing import LLMockServer

from agents_app.models import PromptTemplate
from agents_app.services.agents import create_agent
from orchestrator.execution.providers import provider_settings
from orchestrator.models import Run, Workflow, WorkflowVersion
from orchestrator.selectors.summary import step_lines
from orchestrator.services.advance import advance
from orchestrator.services.drafts import draft_spec
from orchestrator.services.objectives import start_objective
from orchestrator.services.workflows import publish_spec
from tests.e2e.stories import echo
from tests.engine_driver import drain, run_of, step_of
from tests.integration.orchestrator.test_approvals import answer as decide
from tests.integration.orchestrator.test_engine_delegation import Crowd, crowd, statuses, work
from tests.integration.orchestrator.test_engine_planner import answer, plan
from tests.model_servers import llmock
from tests.world import World

__all__ = ["crowd"]

MILK = "Add a todo to buy milk, then show me all my tasks"


@contextmanager
def usually(settings: Any, provider: str, **facts: str) -> Iterator[None]:
    """The provider for steps that name none, and what the operator says of it."""
    given = settings.MUSTER_PROVIDERS
    settings.MUSTER_PROVIDERS = {**given, provider: {**given[provider], **facts}}
    settings.LLM_PROVIDER = provider
    provider_settings.cache_clear()
    yield
    provider_settings.cache_clear()


@pytest.fixture
def _no_model(settings: Any) -> Iterator[None]:
    """No provider that could be called."""
    with usually(settings, "local", base_url=""):
        yield


@pytest.fixture
def _simulated(settings: Any) -> Iterator[None]:
    with usually(settings, "simulated", model="sim"):
        yield


@pytest.fixture(params=["openai", "anthropic"])
def elsewhere(request: pytest.FixtureRequest, settings: Any) -> Iterator[LLMockServer]:
    """A vendor's protocol, spoken by a server that was written elsewhere."""
    kind, model = request.param, {"openai": "gpt-4o", "anthropic": "claude-haiku-4-5"}
    with (
        llmock() as server,
        usually(settings, kind, api_key="sk-x", base_url=server.base_url(kind), model=model[kind]),
    ):
        yield server


def post(world: World, **body: Any) -> Any:
    return world.client().post("/api/v1/runs", body, content_type="application/json")


def begun(world: World, **body: Any) -> UUID:
    answered = post(world, **body)
    assert answered.status_code == 202, answered.json()
    run_id = UUID(answered.json()["id"])
    advance(world.tenant.id, run_id)
    return run_id


@pytest.mark.usefixtures("_no_model")
def test_todos_are_planned_and_done_without_any_model(acme: World) -> None:
    run = drain(acme, begun(acme, objective=MILK))

    assert run.status == "completed", run.status_reason
    assert run.output["objective"] == MILK
    assert [todo["text"] for todo in run.output["answer"]["todos"]] == ["buy milk"]
    assert [(task["id"], task["status"]) for task in run.output["tasks"]] == [
        ("todo_create", "completed"),
        ("todo_list", "completed"),
    ]
    assert step_of(acme, run.id, "work").llm_calls == 0


@pytest.mark.usefixtures("_no_model")
def test_output_is_a_document_too(acme: World) -> None:
    run = drain(acme, begun(acme, objective=MILK))

    address = f"/api/v1/runs/{run.id}/output"
    document = acme.client().get(address, headers={"accept": "text/markdown"}).content.decode()

    assert "## answer" in document
    assert "buy milk" in document


@pytest.mark.usefixtures("_no_model")
def test_what_nobody_understands_without_a_model_is_refused_clearly(acme: World) -> None:
    run = drain(acme, begun(acme, objective="Make me happy."))

    assert run.status == "failed"
    assert "set up a provider" in run.status_reason


def test_model_elsewhere_plans_adapts_and_answers(acme: World, elsewhere: LLMockServer) -> None:
    digs = plan(
        {"id": "dig"}, {"id": "sum", "tool": "calculator", "arguments": {"expression": "1/"}}
    )
    again = plan({"id": "total", "tool": "calculator", "arguments": {"expression": "6*7"}})
    said = [digs, "A vein of gold.", again, answer("Gold, 42 of it.")]
    elsewhere.state.scenarios.add(*(Reply(text=text) for text in said))

    run = drain(acme, begun(acme, objective="Find gold."))

    assert run.status == "completed", run.status_reason
    assert run.output["answer"] == "Gold, 42 of it."
    found = [(task["id"], task["status"], task["result"]) for task in run.output["tasks"]]
    assert found[0] == ("dig", "completed", "A vein of gold.")
    assert found[1][:2] == ("sum", "failed")
    assert found[2] == ("total", "completed", 42)
    assert run.cost_nano > 0


@pytest.mark.usefixtures("_simulated")
def test_model_plans_and_what_it_planned_is_shown(acme: World, crowd: Crowd) -> None:
    summed = {"id": "sum", "tool": "calculator", "arguments": {"expression": "6*7"}}
    crowd.scripts["<objective>"] = [plan({"id": "dig"}, summed), answer("Gold, 42 of it.")]
    run_id = begun(acme, objective="Find gold.", metadata={"for": "Ann"})
    work(acme, run_id)

    shown = acme.client().get(f"/api/v1/runs/{run_id}/plan").json()
    assert shown["progress"] == {"done": 0, "total": 2, "percent": 0}
    (only,) = shown["rounds"]
    assert only["planner"] == "work"
    assert only["worst_case_usd"] == "0"
    assert [(task["id"], task["done_by"], task["step"]) for task in only["tasks"]] == [
        ("dig", "prompt", "work.1.dig"),
        ("sum", "calculator", "work.1.sum"),
    ]

    run = drain(acme, run_id)
    assert run.output["answer"] == "Gold, 42 of it."
    assert [task["result"] for task in run.output["tasks"]] == ["Did: Do dig.", 42]
    told = crowd.heard["<objective>"][0]
    assert "calculator(expression)" in told.messages[0].content
    assert "- digger:" in told.messages[0].content
    percent = acme.client().get(f"/api/v1/runs/{run_id}/plan").json()["progress"]["percent"]
    assert percent == 100


@pytest.mark.usefixtures("_simulated")
def test_plan_is_saved_as_a_workflow_that_does_it_again(acme: World, crowd: Crowd) -> None:
    crowd.scripts["<objective>"] = [
        plan({"id": "sum", "tool": "calculator", "arguments": {"expression": "6*7"}}),
        plan({"id": "say", "tool": "echo", "arguments": {"value": "${sum}"}, "needs": ["sum"]}),
        answer("42"),
    ]
    run = drain(acme, begun(acme, objective="How much?"))

    address = f"/api/v1/runs/{run.id}/plan/save"
    client = acme.client()
    saved = client.post(address, {"name": "how-much"}, content_type="application/json")
    assert saved.status_code == 201, saved.json()
    at = f"/api/v1/workflows/{saved.json()['id']}/publish"
    published = client.post(at, {}, content_type="application/json")
    assert published.status_code == 201, published.json()
    again = drain(acme, begun(acme, workflow="how-much"))

    assert (again.status, again.output) == ("completed", 42)
    assert statuses(acme, again.id) == {"sum": "completed", "say": "completed"}
    taken = client.post(address, {"name": "how-much"}, content_type="application/json")
    assert taken.status_code == 400


def saved_spec(world: World, run_id: UUID, **body: Any) -> dict[str, Any]:
    address = f"/api/v1/runs/{run_id}/plan/save"
    saved = world.client().post(address, body, content_type="application/json")
    assert saved.status_code == 201, saved.json()
    with world.scope():
        return draft_spec(Workflow.objects.get(name=body["name"]))


@pytest.mark.usefixtures("_simulated")
def test_plan_of_a_task_is_no_part_of_the_plan_that_has_it(acme: World, crowd: Crowd) -> None:
    with acme.scope():
        kinds = {"provider": "simulated", "model": "sim", "tools": ["calculator"]}
        create_agent(slug="boss", type="planner", **kinds)
        create_agent(slug="sums", type="pattern_planner", tools=["calculator"])
    inner = plan({"id": "sum", "task": "Inner."}, {"id": "more"})
    asked = {"id": "more", "agent": "sums", "task": "What is 6*7?"}
    crowd.scripts["Do lead."] = [inner, answer("Led.")]
    crowd.scripts["<objective>"] = [
        plan({"id": "lead", "agent": "boss"}, {"id": "sum", "task": "Outer."}, asked),
        answer("Done."),
    ]
    run = drain(acme, begun(acme, objective="Find gold."))

    assert run.output["answer"] == "Done."
    shown = acme.client().get(f"/api/v1/runs/{run.id}/plan").json()
    assert {each["planner"] for each in shown["rounds"]} == {"work", "work.1.lead", "work.1.more"}
    assert shown["progress"] == {"done": 3, "total": 3, "percent": 100}
    steps = saved_spec(acme, run.id, name="whole")["steps"]
    assert {*steps} == {"lead", "sum", "more"}
    assert (steps["lead"]["agent"], steps["sum"]["prompt"]) == ("boss", "Outer.")
    steps = saved_spec(acme, run.id, name="part", step="work.1.lead")["steps"]
    assert {name: step["prompt"] for name, step in steps.items()} == {
        "sum": "Inner.",
        "more": "Do more.",
    }


@pytest.mark.parametrize("step", [None, "c"])
def test_which_of_several_plans_is_meant_has_to_be_said(acme: World, step: str | None) -> None:
    agent = {"type": "pattern_planner", "tools": ["calculator"], "prompt": "What is 6*7?"}
    spec = {"muster": 1, "name": "x", "steps": {"a": {"agent": agent}, "b": {"agent": agent}}}
    with acme.scope():
        publish_spec(project=acme.project, spec=spec)
    run = drain(acme, begun(acme, workflow="x"))

    address = f"/api/v1/runs/{run.id}/plan/save"
    body = {"name": "which", **({"step": step} if step else {})}
    refused = acme.client().post(address, body, content_type="application/json").json()

    assert refused["code"] == "planner_unclear"
    assert refused["errors"][0]["loc"] == "/step"
    assert "a, b" in refused["errors"][0]["message"]
    assert {*saved_spec(acme, run.id, name="b", step="b")["steps"]} == {"calculator"}


@pytest.mark.usefixtures("_no_model")
def test_plan_by_patterns_is_saved_too(acme: World) -> None:
    run = drain(acme, begun(acme, objective=MILK))

    address = f"/api/v1/runs/{run.id}/plan/save"
    saved = acme.client().post(address, {"name": "milk"}, content_type="application/json")

    assert saved.status_code == 201, saved.json()


def test_nothing_that_was_done_is_nothing_to_save(acme: World) -> None:
    with acme.scope():
        version = publish_spec(
            project=acme.project, spec={"muster": 1, "name": "x", "steps": {"a": echo(value=1)}}
        )
    run_id = begun(acme, workflow=version.workflow.name)
    drain(acme, run_id)

    address = f"/api/v1/runs/{run_id}/plan/save"
    saved = acme.client().post(address, {"name": "empty"}, content_type="application/json")

    assert (saved.status_code, saved.json()["code"]) == (409, "nothing_planned")
    assert acme.client().get(f"/api/v1/runs/{run_id}/plan").json()["rounds"] == []


@pytest.mark.usefixtures("_simulated")
def test_person_may_have_to_agree_first(acme: World, crowd: Crowd) -> None:
    crowd.scripts["<objective>"] = [plan({"id": "dig"}), answer("Gold.")]
    run_id = begun(acme, objective="Find gold.", approve=True)
    work(acme, run_id)
    assert statuses(acme, run_id)["work.1.dig"] == "pending"

    decide(acme, run_id, "approve")

    assert drain(acme, run_id).output["answer"] == "Gold."


@pytest.mark.parametrize(
    ("body", "loc", "code"),
    [
        ({}, "/workflow", "required"),
        ({"objective": "x", "workflow": "y"}, "/workflow", "required"),
        ({"objective": "x", "version": 1}, "/version", "not_applicable"),
        ({"objective": "x", "input": {}}, "/input", "not_applicable"),
        ({"workflow": "y", "approve": True}, "/approve", "not_applicable"),
        ({"objective": ""}, "/objective", "blank"),
        ({"objective": "x" * 10_001}, "/objective", "max_length"),
        ({"objective": "x", "approve_above_usd": "-1"}, "/approve_above_usd", "usd"),
    ],
)
def test_bodies_that_make_no_sense_are_refused(
    acme: World, body: dict[str, Any], loc: str, code: str
) -> None:
    answered = post(acme, **body)

    assert answered.status_code == 400
    assert (loc, code) in [(each["loc"], each["code"]) for each in answered.json()["errors"]]


def test_template_that_is_not_there_is_named(acme: World) -> None:
    answered = post(acme, objective="x", template="nobody")

    assert answered.status_code == 404
    assert "nobody" in answered.json()["detail"]


@pytest.mark.parametrize(
    ("task", "code", "named"),
    [
        ("${objective} ${input.text}", "missing_variable", "`input.text`"),
        ("${objective}" * 21, "template_too_large", "200,000 bytes"),
    ],
)
def test_template_that_cannot_be_rendered_is_a_problem_that_says_why(
    acme: World, task: str, code: str, named: str
) -> None:
    with acme.scope():
        PromptTemplate.objects.create(name="default", task=task)

    answered = post(acme, objective="x" * 10_000)

    assert answered.status_code == 400
    (problem,) = answered.json()["errors"]
    assert (problem["loc"], problem["code"]) == ("/template", code)
    assert named in problem["message"]


@pytest.mark.usefixtures("_no_model")
def test_template_names_agents_where_there_are_none(acme: World) -> None:
    with acme.scope():
        PromptTemplate.objects.create(name="default", task="${objective} ${agents}")

    assert drain(acme, begun(acme, objective="What is 6*7?")).output["answer"] == 42


@pytest.mark.usefixtures("_simulated")
def test_same_ways_of_planning_share_a_version(acme: World, crowd: Crowd) -> None:
    with acme.scope():
        for approve in (False, True, False, True):
            start_objective(project=acme.project, objective="x", approve=approve)
        assert WorkflowVersion.objects.filter(workflow__name="objective").count() == 2


def test_workflow_of_that_name_is_left_alone(acme: World) -> None:
    spec = {"muster": 1, "name": "objective", "steps": {"a": echo(value=1)}}
    with acme.scope():
        publish_spec(project=acme.project, spec=spec)

    answered = post(acme, objective=MILK)

    assert answered.status_code == 400
    assert answered.json()["errors"][0]["code"] == "name_taken"
    with acme.scope():
        assert Workflow.objects.get(name="objective").versions.count() == 1


def test_plan_of_another_tenant_is_not_there(acme: World, globex: World) -> None:
    run = drain(acme, begun(acme, objective="What is 6*7?"))

    assert globex.client().get(f"/api/v1/runs/{run.id}/plan").status_code == 404


@pytest.mark.usefixtures("_no_model")
def test_command_starts_an_objective(acme: World) -> None:
    out = io.StringIO()

    call_command("plan", MILK, tenant=acme.tenant.slug, detach=True, stdout=out)

    run_id = UUID(out.getvalue().strip())
    advance(acme.tenant.id, run_id)
    assert drain(acme, run_id).status == "completed"
    with acme.scope():
        assert Run.objects.get(id=run_id).started_by["kind"] == "command"
    assert [todo["text"] for todo in run_of(acme, run_id).output["answer"]["todos"]] == ["buy milk"]


@pytest.mark.usefixtures("_no_model")
def test_what_was_planned_stands_below_its_planner_in_the_terminal(acme: World) -> None:
    run = drain(acme, begun(acme, objective=MILK))

    with acme.scope():
        lines = step_lines(run.id)

    assert [(line.name, line.depth) for line in lines] == [
        ("work", 0),
        ("work.todo_create", 1),
        ("work.todo_list", 1),
    ]
