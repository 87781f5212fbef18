from typing import Any

import pytest
from django.contrib.admin import site
from django.db import connection
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from agents_app.models import Agent
from orchestrator.core.yaml_io import dump_text, load_text
from orchestrator.models import Run, Workflow
from orchestrator.services.deletion import WorkflowBusyError
from orchestrator.services.drafts import draft_spec, save_draft
from tests.html_forms import form_data
from tests.run_rows import REPORT, make_run, published
from tests.world import World

AGENT = {"type": "prompt"}
# What an author may write that a form could easily lose: empty texts, spaces, lone line breaks,
# an odd order of keys and of needs, a setting without a field of its own.
ODD: dict[str, Any] = {
    "muster": 1,
    "name": "odd",
    "description": "",
    "failure": {"mode": "partial"},
    "output": "${steps.b.output}",
    "defaults": {"timeout": "60s", "provider": "simulated"},
    "steps": {
        "b": {
            "needs": ["a2", "a1"],
            "agent": {"role": "executor", "type": "prompt"},
            "prompt": "\n  Indented, with a last line.\n\n",
            "system": "Two\r\nkinds\nof breaks",
            "parameters": {"top_p": 1, "temperature": 0.5},
            "priority": 0,
        },
        "a2": {"agent": "saved", "description": "x", "arguments": {"k": [1, None]}},
        "a1": {"agent": {"tool": "echo", "arguments": {"value": "é\u2028"}, "type": "tool"}},
        "gone": {"agent": "not-saved-any-more", "tools": ["strange"], "needs": []},
    },
}


def draft(world: World, spec: dict[str, Any]) -> Workflow:
    with world.scope():
        return save_draft(project=world.project, spec=spec)


def spec_of(world: World, name: str) -> dict[str, Any]:
    with world.scope():
        return draft_spec(Workflow.objects.get(name=name))


def change_url(workflow: Workflow) -> str:
    return reverse("admin:orchestrator_workflow_change", args=[workflow.pk])


def filled(world: World, workflow: Workflow, **changes: Any) -> dict[str, Any]:
    page = world.browser().get(change_url(workflow)).content.decode()
    return {**form_data(page, "workflow_form"), **changes}


def errors_of(answer: Any) -> list[dict[str, Any]]:
    (formset,) = answer.context["inline_admin_formsets"]
    return [dict(form.errors) for form in formset.formset.forms]


def test_round_through_the_browser_loses_nothing(acme: World) -> None:
    workflow = draft(acme, ODD)
    before = dump_text(spec_of(acme, "odd"))

    answer = acme.browser().post(change_url(workflow), filled(acme, workflow, _continue=""))

    assert answer.status_code == 302
    assert dump_text(spec_of(acme, "odd")) == before
    assert spec_of(acme, "odd") == ODD


def test_changed_step_leaves_its_other_fields_as_they_were(acme: World) -> None:
    workflow = draft(acme, ODD)
    data = filled(acme, workflow, **{"steps-0-timeout": "5s"})

    acme.browser().post(change_url(workflow), data)

    expected = {**ODD["steps"]["b"], "timeout": "5s"}
    assert spec_of(acme, "odd")["steps"]["b"] == expected
    assert spec_of(acme, "odd")["steps"]["b"]["needs"] == ["a2", "a1"]


def test_places_order_the_steps(acme: World) -> None:
    workflow = draft(acme, REPORT)
    data = filled(acme, workflow, **{"steps-4-position": "0", "steps-0-position": "9"})

    acme.browser().post(change_url(workflow), data)

    names = list(spec_of(acme, "research-report")["steps"])
    assert names == ["review", "facts", "quotes", "draft", "outline"]


def test_two_steps_may_swap_their_names(acme: World) -> None:
    workflow = draft(acme, REPORT)
    data = filled(acme, workflow, **{"steps-1-name": "quotes", "steps-2-name": "facts"})

    assert acme.browser().post(change_url(workflow), data).status_code == 302
    assert list(spec_of(acme, "research-report")["steps"])[1:3] == ["quotes", "facts"]


@pytest.mark.parametrize(
    ("changes", "at", "field", "said"),
    [
        ({"steps-1-needs": ["outline", "ghost"]}, 1, "needs", "no step ghost"),
        ({"steps-1-needs": ["facts"]}, 1, "needs", "cannot need itself"),
        ({"steps-0-needs": ["review"]}, 0, "needs", "wait for each other"),
        ({"steps-1-name": "quotes"}, 2, "name", "Two steps are named quotes"),
        ({"steps-1-name": "Facts!"}, 1, "name", "lower-case"),
        ({"steps-1-parameters": '{"a": 1,}'}, 1, "parameters", "line 1, column"),
        ({"steps-1-parameters": '{"a": 1, "a": 2}'}, 1, "parameters", "twice"),
        ({"steps-1-parameters": '{"a": NaN}'}, 1, "parameters", "JSON"),
        ({"steps-1-parameters": '{"a": "\\u0000"}'}, 1, "parameters", "zero character"),
        ({"steps-1-parameters": '{"a": "\\ud800"}'}, 1, "parameters", "JSON"),
        ({"steps-1-parameters": "[" * 100_000}, 1, "parameters", "deeply"),
        ({"steps-1-parameters": "[1]"}, 1, "parameters", "JSON object"),
        ({"steps-1-settings": '{"prompt": "x"}'}, 1, "settings", "field of its own"),
        ({"steps-1-agent_more": '{"tool": "echo"}'}, 1, "agent_more", "does not apply"),
        ({"steps-1-priority": "11"}, 1, "priority", "less than or equal"),
    ],
)
def test_fault_is_shown_at_its_field(
    acme: World, changes: dict[str, Any], at: int, field: str, said: str
) -> None:
    workflow = draft(acme, REPORT)
    before = dump_text(spec_of(acme, "research-report"))

    answer = acme.browser().post(change_url(workflow), filled(acme, workflow, **changes))

    shown = " ".join(error for form in errors_of(answer) for error in form.get(field, []))
    assert said in shown
    assert field in errors_of(answer)[at]
    assert dump_text(spec_of(acme, "research-report")) == before


def test_cycle_is_named(acme: World) -> None:
    workflow = draft(acme, REPORT)

    answer = acme.browser().post(
        change_url(workflow), filled(acme, workflow, **{"steps-0-needs": ["facts"]})
    )

    assert "outline → facts → outline" in answer.content.decode()


def test_need_of_a_deleted_step_is_refused(acme: World) -> None:
    workflow = draft(acme, REPORT)

    answer = acme.browser().post(
        change_url(workflow), filled(acme, workflow, **{"steps-0-DELETE": "on"})
    )

    assert "no step outline" in answer.content.decode()


def test_name_twice_in_a_project_is_refused_at_its_field(acme: World) -> None:
    workflow = draft(acme, REPORT)
    draft(acme, {**REPORT, "name": "other"})

    answer = acme.browser().post(change_url(workflow), filled(acme, workflow, name="other"))

    assert "name" in answer.context["adminform"].form.errors


def test_validate_shows_problems_at_their_fields_and_keeps_the_draft(acme: World) -> None:
    workflow = draft(acme, REPORT)
    changes = {"steps-1-prompt": "${steps.ghost.output}", "steps-2-provider": "", "_validate": ""}

    answer = acme.browser().post(
        change_url(workflow), filled(acme, workflow, **changes), follow=True
    )

    assert "There is no step `ghost`" in str(errors_of(answer)[1]["prompt"])
    assert spec_of(acme, "research-report")["steps"]["facts"]["prompt"] == changes["steps-1-prompt"]


@pytest.mark.parametrize(
    ("spec", "form", "field"),
    [
        ({"strategy": "fastest"}, "header", "strategy"),
        ({"deadline": "soon"}, "header", "settings"),
        ({"defaults": {"provider": "nobody"}}, "header", "defaults"),
        ({"inputs": {"type": 3}}, "header", "inputs"),
        ({"steps": {"a": {"agent": "nobody"}}}, 0, "agent_source"),
        (
            {"steps": {"a": {"agent": {"type": "custom", "implementation": "nobody"}}}},
            0,
            "agent_more",
        ),
        ({"steps": {"a": {"agent": {**AGENT, "prompt": "${x}"}}}}, 0, "agent_more"),
        (
            {"steps": {"a": {"agent": AGENT, "prompt": "x", "when": "steps.z.output"}}},
            0,
            "settings",
        ),
        ({"steps": {"a": {"agent": AGENT, "prompt": "x", "timeout": "soon"}}}, 0, "timeout"),
        ({"steps": {"a": {"delay": "soon"}}}, 0, "settings"),
    ],
)
def test_problem_of_any_part_finds_its_field(
    acme: World, spec: dict[str, Any], form: Any, field: str
) -> None:
    steps = {"a": {"agent": AGENT, "prompt": "Hello"}}
    with acme.scope():
        workflow = Workflow.objects.create(project=acme.project, name="parts")
        whole = {"muster": 1, "name": "parts", "steps": steps, **spec}
        fill_rows(workflow, whole)

    answer = acme.browser().get(change_url(workflow) + "?check=1")

    at = answer.context["adminform"].form.errors if form == "header" else errors_of(answer)[form]
    assert field in at
    assert all(each.field_id for each in answer.context["shown"])


def fill_rows(workflow: Workflow, spec: dict[str, Any]) -> None:
    """The rows of a spec that the services would refuse to take."""
    from orchestrator.services import drafts

    drafts._fill(workflow, spec, drafts.WORKFLOW_COLUMNS, left_out=("muster", "name", "steps"))
    workflow.save()
    drafts._save_steps(workflow, drafts.steps_of(spec))


def test_publish_makes_a_numbered_version_and_the_same_draft_none(acme: World) -> None:
    workflow = draft(acme, REPORT)
    client = acme.browser()

    first = client.post(change_url(workflow), filled(acme, workflow, _publish=""), follow=True)
    second = client.post(change_url(workflow), filled(acme, workflow, _publish=""), follow=True)

    assert "Version 1 is published" in first.content.decode()
    assert "Nothing has changed since version 1" in second.content.decode()


def test_publishing_a_faulty_draft_reports_instead(acme: World) -> None:
    workflow = draft(acme, REPORT)
    data = filled(acme, workflow, **{"steps-1-prompt": "${steps.ghost.output}", "_publish": ""})

    answer = acme.browser().post(change_url(workflow), data, follow=True)

    assert "in the way of publishing" in answer.content.decode()
    with acme.scope():
        assert not workflow.versions.exists()


def test_yaml_goes_out_and_into_another_tenant(acme: World, globex: World) -> None:
    workflow = draft(acme, ODD)
    text = (
        acme.browser().get(reverse("admin:orchestrator_workflow_yaml", args=[workflow.pk])).content
    )

    answer = globex.browser().post(
        reverse("admin:orchestrator_workflow_load"),
        {"project": globex.project.pk, "text": text.decode()},
    )

    assert answer.status_code == 302
    assert spec_of(globex, "odd") == load_text(text) == ODD


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "line"),
        ("- 1", "must be a mapping"),
        ("name: x", "steps"),
        ("name: x\nsteps: {a: {agent: {type: nobody}}}", "one of"),
        ("[" * 100_000, "line"),
    ],
)
def test_unusable_import_is_explained(acme: World, text: str, said: str) -> None:
    answer = acme.browser().post(
        reverse("admin:orchestrator_workflow_load"), {"project": acme.project.pk, "text": text}
    )

    assert said in str(answer.context["form"].errors["text"])


def test_import_replaces_only_when_told_to(acme: World) -> None:
    draft(acme, REPORT)
    changed = dump_text({**REPORT, "description": "Newer"})
    data = {"project": acme.project.pk, "text": changed}
    url = reverse("admin:orchestrator_workflow_load")

    refused = acme.browser().post(url, data)
    acme.browser().post(url, {**data, "replace": "on"})

    assert "replace" in refused.context["form"].errors
    assert spec_of(acme, "research-report")["description"] == "Newer"


def test_import_into_a_strangers_project_is_refused(acme: World, globex: World) -> None:
    answer = acme.browser().post(
        reverse("admin:orchestrator_workflow_load"),
        {"project": globex.project.pk, "text": dump_text(REPORT)},
    )

    assert "project" in answer.context["form"].errors


def test_page_of_many_steps_asks_the_database_no_more_often(acme: World) -> None:
    def steps(count: int) -> dict[str, Any]:
        return {f"s{n}": {"agent": "saved", "prompt": "x"} for n in range(count)}

    def queries(workflow: Workflow) -> int:
        client = acme.browser()
        client.get(change_url(workflow))
        with CaptureQueriesContext(connection) as asked:
            client.get(change_url(workflow))
        return len(asked)

    with acme.scope():
        Agent.objects.create(slug="saved", name="Saved", prompt="x")
    few = draft(acme, {"name": "few", "steps": steps(2)})
    many = draft(acme, {"name": "many", "steps": steps(30)})

    assert queries(many) == queries(few)


def delete(world: World, workflow: Workflow) -> str:
    """The page that follows."""
    url = reverse("admin:orchestrator_workflow_delete", args=[workflow.pk])
    answer = world.browser().post(url, {"post": "yes"}, follow=True)
    assert answer.status_code == 200
    return answer.content.decode()


def test_workflow_at_work_stays_and_the_page_says_why(acme: World) -> None:
    version = published(acme)
    make_run(acme, version, "running", status="running")

    assert "are still at work" in delete(acme, version.workflow)
    with acme.scope():
        assert Workflow.objects.exists()


def test_workflow_is_deleted_with_versions_and_runs_that_ended(acme: World) -> None:
    version = published(acme)
    make_run(acme, version, "completed", status="completed")

    delete(acme, version.workflow)

    with acme.scope():
        assert not Workflow.objects.exists()
        assert not Run.objects.exists()


def test_deleting_several_at_once_asks_for_each(acme: World, rf: RequestFactory) -> None:
    draft(acme, {**REPORT, "name": "idle"})
    make_run(acme, published(acme), "running", status="running")

    pages = site.get_model_admin(Workflow)
    with pytest.raises(WorkflowBusyError), acme.scope():
        pages.delete_queryset(rf.post("/"), Workflow.objects.all())

    with acme.scope():
        assert Workflow.objects.count() == 2


def test_page_before_deleting_says_how_many_runs_go(acme: World) -> None:
    version = published(acme)
    make_run(acme, version, "completed", status="completed")
    url = reverse("admin:orchestrator_workflow_delete", args=[version.workflow.pk])

    assert "runs that go too: 1" in acme.browser().get(url).content.decode()
