"""Every blueprint that ships does for a new tenant what it says it does."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from django.conf import settings

from agents_app.models import Agent, MemoryEntry
from orchestrator.core.input_form import form_of, values_in
from orchestrator.core.schema import Schema
from orchestrator.execution import gateway
from orchestrator.execution.providers import TenantClient, provider_settings
from orchestrator.models import AgentRun, Approval, Run
from orchestrator.selectors.blueprints import FOLDER, blueprints
from orchestrator.services.advance import advance
from orchestrator.services.approvals import decide
from orchestrator.services.blueprints import adopt_blueprint, blueprint_price
from orchestrator.services.runs import start_run
from tests.blueprint_cast import Cast, Part
from tests.engine_driver import drain, live_children, open_limiter, run_of
from tests.integration.orchestrator.test_approvals import person
from tests.model_servers import smollm2
from tests.unit.test_documents import names, table
from tests.world import World

NAMES = sorted(blueprints())
# The quick ones that show what the local model has to be able to do.
ON_LOCAL_MODEL = ("bug-triage", "invoice-check", "lead-routing", "research-report")
PARTS = {
    *("approval", "condition", "delegation", "evaluator", "loop", "map", "memory", "planner"),
    *("router", "sub-workflow"),
}


@pytest.fixture(scope="module")
def model_url() -> Iterator[str]:
    with smollm2() as url:
        yield f"{url}/v1"


@pytest.fixture
def _local(model_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The provider `local`, as LOCAL_MODEL_URL would configure it."""
    given = settings.MUSTER_PROVIDERS
    local = {**given["local"], "base_url": model_url}
    monkeypatch.setattr(settings, "MUSTER_PROVIDERS", {**given, "local": local})
    provider_settings.cache_clear()
    yield
    monkeypatch.undo()
    provider_settings.cache_clear()


@pytest.fixture
def cast(monkeypatch: pytest.MonkeyPatch) -> Cast:
    cast = Cast()
    open_limiter()
    monkeypatch.setattr(gateway, "client_for_tenant", lambda *_, **__: TenantClient(client=cast))
    return cast


def begin(world: World, name: str, given: Any = None, **chosen: str) -> Run:
    """A run of the adopted blueprint, with its own example unless told otherwise."""
    found = blueprints()[name]
    model = chosen or {"provider": "simulated", "model": "sim"}
    with world.scope():
        adopted = adopt_blueprint(found, project=world.project, and_publish=True, **model)
        return start_run(workflow=adopted.workflow, input=given or found.example)


def to_the_end(world: World, run: Run, *, decision: str = "approve") -> Run:
    """Do what workers do, and decide whatever people are asked."""
    advance(world.tenant.id, run.id)
    for _ in range(50):
        settle(world, run.id)
        asked = open_questions(world)
        if not asked:
            return run_of(world, run.id)
        for approval in asked:
            with world.scope():
                decide(approval, principal=person(world), decision=decision)
            advance(world.tenant.id, approval.run_id)
    raise AssertionError("people are asked without end")


def settle(world: World, run_id: UUID) -> None:
    while not drain(world, run_id).finished_at and (children := live_children(world, run_id)):
        for child in children:
            settle(world, child)


def open_questions(world: World) -> list[Approval]:
    with world.scope():
        return list(Approval.objects.select_related("run").filter(status="open"))


def statuses(world: World, run: Run) -> dict[str, str]:
    with world.scope():
        return dict(AgentRun.objects.filter(run=run).values_list("step", "status"))


def play(world: World, cast: Cast, name: str, parts: dict[str, list[Part]], **more: Any) -> Run:
    cast.parts = parts
    decision = more.pop("decision", "approve")
    run = to_the_end(world, begin(world, name, **more), decision=decision)
    assert run.status == "completed", run.status_reason
    return run


# --- all of them ---


def test_the_blueprints_show_all_that_workflows_can_be_made_of() -> None:
    assert len(NAMES) >= 10
    assert {part for each in blueprints().values() for part in each.parts} == PARTS


def test_guide_lists_the_blueprints() -> None:
    told = {(names(row[0])[0], row[1]) for row in table("docs/workflows.md", "blueprint")}

    assert told == {(each.name, each.module) for each in blueprints().values()}


@pytest.mark.parametrize("name", NAMES)
def test_blueprint_is_complete(name: str) -> None:
    found = blueprints()[name]

    assert (FOLDER / f"{name.replace('-', '_')}.yaml").exists()
    assert found.description
    assert found.module
    assert "SmolLM2" in found.notes
    assert found.spec["max_cost_usd"]
    assert found.spec["deadline"]
    assert found.model == ("local", "smollm2")


@pytest.mark.parametrize("name", NAMES)
def test_blueprint_can_be_started_from_the_form_with_its_example(name: str) -> None:
    schema: Schema = blueprints()[name].spec["inputs"]
    form = form_of(schema)

    assert form is not None
    assert values_in(form, blueprints()[name].example) is not None


@pytest.mark.usefixtures("_local")
@pytest.mark.parametrize("name", NAMES)
def test_blueprint_can_be_published_and_priced_by_a_new_tenant(name: str, acme: World) -> None:
    found = blueprints()[name]

    with acme.scope():
        price = blueprint_price(found, project=acme.project)
        assert not Agent.objects.exists()
        assert adopt_blueprint(found, project=acme.project, and_publish=True).version
    assert price.price is not None, price.hindrance


@pytest.mark.usefixtures("_local")
@pytest.mark.parametrize("name", ON_LOCAL_MODEL)
def test_blueprint_runs_on_the_local_model(name: str, acme: World) -> None:
    run = to_the_end(acme, begin(acme, name, provider="local", model="smollm2"))

    with acme.scope():
        steps = list(AgentRun.objects.filter(run=run, status="completed"))
    assert run.status == "completed", run.status_reason
    assert all(step.output not in (None, "") for step in steps)
    asked = [step for step in steps if step.uses_model]
    assert asked
    assert all(step.llm_calls == 1 and step.output_tokens > 0 for step in asked)


# --- each of them ---


def test_invoice_check_gets_its_figures_from_the_calculator(acme: World, cast: Cast) -> None:
    run = play(acme, cast, "invoice-check", {"to accounting": ["A note."]})

    assert run.output == {"expected": 120, "difference": 5, "note": "A note."}


def test_research_report_answers_side_by_side_and_sums_up(acme: World, cast: Cast) -> None:
    parts = {"Name three": ["Q?"], "Answer these": ["F"], "what How bees": ["B"]}
    parts |= {"say why": ["O"], "Sum up": ["S"]}
    run = play(acme, cast, "research-report", parts)

    assert run.output == {"report": "B\n\nF\n\nO", "summary": "S"}
    assert "Q?" in cast.prompts("Answer these")[0]


def test_support_triage_sorts_and_replies(acme: World, cast: Cast) -> None:
    parts: dict[str, list[Part]] = {
        "Which topic": [{"topic": "delivery"}],
        "How urgent": [{"urgency": "high"}],
        "short reply": ["Sorry."],
    }
    run = play(acme, cast, "support-triage", parts)

    assert run.output == {"topic": "delivery", "urgency": "high", "reply": "Sorry."}
    assert "Its urgency is high" in cast.prompts("short reply")[0]


POST: dict[str, list[Part]] = {
    "List three": ["Flour"],
    "Write a friendly post": ["First.", "Second."],
    "First.": [{"feedback": "Say more of flour.", "score": 0.3}],
    "Second.": [{"feedback": "Good.", "score": 0.9}],
}


def test_blog_post_is_written_until_it_is_accepted_and_then_signed_off(
    acme: World, cast: Cast
) -> None:
    title: dict[str, list[Part]] = {"Give this post a title": ["On bread"]}
    run = play(acme, cast, "blog-post", title | POST)

    assert run.output == {
        "title": "On bread",
        "text": "Second.",
        "score": 0.9,
        "decision": "approve",
    }
    rounds = cast.prompts("Write a friendly post")
    assert len(rounds) == 2
    assert "Heed this advice: none yet" in rounds[0]
    assert "Heed this advice: Say more of flour." in rounds[1]


def test_blog_post_that_is_rejected_gets_no_title(acme: World, cast: Cast) -> None:
    run = play(acme, cast, "blog-post", POST, decision="reject")

    assert run.output["title"] is None
    assert statuses(acme, run)["title"] == "skipped"


EXPENSE: dict[str, list[Part]] = {
    "Which category": [{"category": "travel"}],
    "in two sentences": ["Dear Kim."],
}


@pytest.mark.parametrize("decision", ["approve", "reject"])
def test_expense_above_the_limit_is_for_a_person_to_decide(
    acme: World, cast: Cast, decision: str
) -> None:
    run = play(acme, cast, "expense-check", EXPENSE, decision=decision)

    assert run.output["decision"] == decision
    assert run.output["asked"]["by"] == "ada"
    assert f"Decision: {decision}." in cast.prompts("in two sentences")[0]


@pytest.mark.parametrize("amount", [12, 99.5, 100])
def test_expense_within_the_limit_asks_nobody(acme: World, cast: Cast, amount: float) -> None:
    given = {"employee": "Kim", "purpose": "Lunch", "amount": amount}
    run = play(acme, cast, "expense-check", EXPENSE, given=given)

    assert (run.output["decision"], run.output["asked"]) == ("approve", None)
    assert statuses(acme, run)["release"] == "skipped"


def test_stock_reorder_counts_what_is_missing_alone(acme: World, cast: Cast) -> None:
    run = play(acme, cast, "stock-reorder", {"order the following": ["Dear Globex."]})

    assert run.output == {
        "lines": [
            {"item": "screws", "order": 60, "cost": 30},
            {"item": "nails", "order": 0, "cost": 0},
        ],
        "letter": "Dear Globex.",
    }


def test_stock_is_not_reordered_without_a_yes(acme: World, cast: Cast) -> None:
    run = play(acme, cast, "stock-reorder", {}, decision="reject")

    assert run.output["letter"] is None
    assert not cast.heard


@pytest.mark.parametrize("route", ["call", "nurture", "decline"])
def test_lead_goes_the_way_that_was_chosen_and_no_other(
    acme: World, cast: Cast, route: str
) -> None:
    texts = {"call": "Write three questions", "nurture": "keep them posted"}
    texts |= {"decline": "we cannot help"}
    parts: dict[str, list[Part]] = {words: [name] for name, words in texts.items()}
    run = play(acme, cast, "lead-routing", {"An inquiry of": [{"route": route}], **parts})

    assert run.output == {"route": route, "text": route}
    others = statuses(acme, run).items() - {("route", "completed"), (route, "completed")}
    assert {status for _, status in others} == {"skipped"}
    assert len(cast.heard) == 2


APPLICATION: dict[str, list[Part]] = {
    "An application for": [{"experience": "Baking", "open_question": "When?"}],
    "invite A-": ["Do come."],
}


def test_each_applicant_is_for_a_person_to_choose(acme: World, cast: Cast) -> None:
    cast.parts = APPLICATION
    run = begin(acme, "applicant-overview")
    advance(acme.tenant.id, run.id)
    settle(acme, run.id)
    asked = open_questions(acme)
    for approval in asked:
        decision = "approve" if "A-18" in approval.question else "reject"
        with acme.scope():
            decide(approval, principal=person(acme), decision=decision)
        advance(acme.tenant.id, run.id)
    done = to_the_end(acme, run)

    first, second = done.output["applicants"]
    assert len(asked) == 2
    assert (first["applicant"], first["decision"], first["invitation"]) == ("A-17", "reject", None)
    assert (second["decision"], second["invitation"]) == ("approve", "Do come.")
    assert len(cast.prompts("invite A-")) == 1


BUG: dict[str, list[Part]] = {
    "How severe": [{"severity": "critical", "part": "invoices"}],
    "Thank the author": ["Thanks."],
}


def test_critical_bug_alarms_somebody_and_is_remembered_for_the_next(
    acme: World, cast: Cast
) -> None:
    run = play(acme, cast, "bug-triage", BUG)
    report = {"number": "BUG-8", "report": "An invoice cannot be saved."}
    quiet = {**BUG, "How severe": [{"severity": "low", "part": "invoices"}]}
    cast.asked.clear()
    second = play(acme, cast, "bug-triage", quiet, given=report)

    assert run.output["taken_by"] == "ada"
    assert (second.output["taken_by"], second.output["severity"]) == (None, "low")
    assert statuses(acme, second)["alarm"] == "skipped"
    first_asked, then_asked = cast.prompts("How severe")
    assert "BUG-7" not in first_asked
    assert "BUG-7, critical, in invoices" in then_asked
    with acme.scope():
        assert set(MemoryEntry.objects.values_list("key", flat=True)) == {"bug BUG-7", "bug BUG-8"}


def test_release_notes_come_from_a_workflow_for_each_change(acme: World, cast: Cast) -> None:
    parts: dict[str, list[Part]] = {
        "Of which kind is this change? Rec": [{"kind": "added"}],
        "Of which kind is this change? Rou": [{"kind": "fixed"}],
        "Say in one plain sentence": ["A note."],
        "sums up what is new": ["All is new."],
    }
    run = play(acme, cast, "release-notes", parts)

    assert run.output["heading"] == "All is new."
    assert [note["kind"] for note in run.output["notes"]] == ["added", "fixed"]
    with acme.scope():
        assert Run.objects.filter(workflow__name="change-note").count() == 2


def test_market_brief_weighs_what_two_agents_bring(acme: World, cast: Cast) -> None:
    asks = [
        ("delegate", {"agent": "scout", "task": "Chances of bread?"}),
        ("delegate", {"agent": "sceptic", "task": "Risks of bread?"}),
    ]
    parts: dict[str, list[Part]] = {
        "Write a brief": [asks, "On the whole: try it."],
        "Chances of bread?": ["People eat."],
        "Risks of bread?": ["Flour is dear."],
    }
    run = play(acme, cast, "market-brief", parts)

    assert run.output == {"brief": "On the whole: try it."}
    told = [result.content for result in cast.heard[-1].messages[-1].tool_results]
    assert ["People eat." in told[0], "Flour is dear." in told[1]] == [True, True]


def test_plan_and_do_has_its_tasks_done_and_keeps_the_result(acme: World, cast: Cast) -> None:
    sums = {"id": "sum", "title": "Sum", "task": "Work it out.", "tool": "calculator"}
    plan = {"tasks": [{**sums, "arguments": {"expression": "17 * 39.90"}}]}
    run = play(acme, cast, "plan-and-do", {"what is": [plan, {"tasks": [], "answer": "678.3"}]})

    assert run.output == "678.3"
    assert statuses(acme, run)["work.1.sum"] == "completed"
    with acme.scope():
        assert "678.3" in MemoryEntry.objects.get().text


def test_plan_and_do_understands_arithmetic_where_its_model_makes_no_plan(
    acme: World, cast: Cast
) -> None:
    first = play(acme, cast, "plan-and-do", {"what is": ["I cannot plan."]})
    again = play(acme, cast, "plan-and-do", {"what is": ["I cannot plan."]})

    assert "<memory>" in cast.heard[-1].messages[0].content
    assert first.output == again.output == pytest.approx(678.3)
