import json
from copy import deepcopy
from typing import Any

import pytest
from django.urls import reverse

from orchestrator.models import Run, Workflow
from tests.html_forms import form_data
from tests.run_rows import REPORT, published
from tests.world import World

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["topic", "customer"],
    "properties": {
        "topic": {"type": "string", "minLength": 3, "maxLength": 80, "description": "What about."},
        "text": {"type": "string", "default": "Be brief."},
        "count": {"type": "integer", "minimum": 1, "default": 2},
        "share": {"type": "number"},
        "urgent": {"type": "boolean"},
        "tone": {"enum": ["dry", "warm", 3]},
        "channels": {"type": "array", "items": {"enum": ["mail", "web"]}},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 5}},
        "due": {"type": "string", "format": "date"},
        "at": {"type": "string", "format": "date-time"},
        "customer": {
            "type": "object",
            "title": "The <customer>",
            "required": ["name"],
            "properties": {"name": {"type": "string", "maxLength": 20}},
        },
        "extra": {"type": "object"},
    },
}
STEPS = {"only": {"agent": {"type": "aggregator"}}}
FIELDS = [*SCHEMA["properties"]]
FIELDS[FIELDS.index("customer")] = "name"
NAMES = {name: f"in-{at}" for at, name in enumerate(FIELDS)}


@pytest.fixture
def workflow(acme: World) -> Workflow:
    return published(acme, {**deepcopy(REPORT), "inputs": deepcopy(SCHEMA)}).workflow


def run_url(workflow: Workflow) -> str:
    return reverse("admin:orchestrator_workflow_run", args=[workflow.pk])


def page(world: World, workflow: Workflow) -> str:
    return world.browser().get(run_url(workflow)).content.decode()


def send(world: World, workflow: Workflow, **given: Any) -> Any:
    """Fill in a fresh form and press the button."""
    fresh = form_data(page(world, workflow), "run_form")
    filled = {NAMES.get(name, name): value for name, value in given.items()}
    return world.browser().post(run_url(workflow), {**fresh, **filled})


def input_of(world: World) -> Any:
    with world.scope():
        return Run.objects.get().input


def test_what_is_filled_in_becomes_the_input(acme: World, workflow: Workflow) -> None:
    answer = send(
        acme,
        workflow,
        topic="tides",
        text="One\r\nTwo",
        count="7",
        share="0.5",
        urgent="1",
        tone="2",
        channels=["1", "0"],
        tags="a\r\n\r\nb",
        due="2026-01-31",
        at="2026-01-31T18:30",
        name="Ada",
        extra='{"k": [1, null]}',
        priority="7",
    )

    assert answer.status_code == 302
    assert input_of(acme) == {
        "topic": "tides",
        "text": "One\nTwo",
        "count": 7,
        "share": 0.5,
        "urgent": False,
        "tone": 3,
        "channels": ["mail", "web"],
        "tags": ["a", "b"],
        "due": "2026-01-31",
        "at": "2026-01-31T18:30:00Z",
        "customer": {"name": "Ada"},
        "extra": {"k": [1, None]},
    }


def test_defaults_stand_in_the_form_and_empty_fields_are_left_out(
    acme: World, workflow: Workflow
) -> None:
    shown = form_data(page(acme, workflow), "run_form")
    assert (shown[NAMES["text"]], shown[NAMES["count"]]) == (["Be brief."], ["2"])

    send(acme, workflow, topic="tides", name="Ada")

    assert input_of(acme) == {
        "topic": "tides",
        "customer": {"name": "Ada"},
        "text": "Be brief.",
        "count": 2,
    }


def test_page_tells_what_the_schema_tells_and_escapes_it(acme: World, workflow: Workflow) -> None:
    shown = page(acme, workflow)

    assert "What about." in shown
    assert "The &lt;customer&gt;" in shown
    assert "Left empty: Be brief." in shown
    assert shown.count('title="required"') == 3


@pytest.mark.parametrize(
    ("given", "field", "said"),
    [
        ({}, "topic", "topic is required"),
        ({}, "name", "name is required"),
        ({"topic": "x"}, "topic", "too short"),
        ({"count": "0"}, "count", "less than the minimum"),
        ({"count": "1.5"}, "count", "not of type"),
        ({"count": "many"}, "count", "Write a number"),
        ({"share": "1e999"}, "share", "Write a number"),
        ({"share": "NaN"}, "share", "Write a number"),
        ({"tone": "9"}, "tone", "not one of"),
        ({"tags": "a\nlonger"}, "tags", "1: "),
        ({"due": "tomorrow"}, "due", "Write it as"),
        ({"at": "9999-99-99T00:00"}, "at", "Write it as"),
        ({"extra": "{"}, "extra", "Not JSON"),
        ({"extra": "[]"}, "extra", "not of type"),
        ({"topic": "\0"}, "topic", "Null characters"),
    ],
)
def test_what_is_wrong_is_told_at_its_field(
    acme: World, workflow: Workflow, given: Any, field: str, said: str
) -> None:
    right = {} if not given else {"topic": "tides", "name": "Ada"}

    answer = send(acme, workflow, **{**right, **given})

    assert said in str(answer.context["form"].errors[NAMES[field]])
    with acme.scope():
        assert not Run.objects.exists()


def test_form_turns_into_json_and_back(acme: World, workflow: Workflow) -> None:
    as_json = send(acme, workflow, topic="tides", tone="0", name="Ada", _json="")
    raw = form_data(as_json.content.decode(), "run_form")
    assert '"tone": "dry"' in raw["input"][0]

    as_form = acme.browser().post(run_url(workflow), {**raw, "_fields": ""})

    shown = form_data(as_form.content.decode(), "run_form")
    assert (shown[NAMES["topic"]], shown[NAMES["tone"]]) == (["tides"], ["0"])


def test_json_that_the_form_would_lose_stays_json(acme: World, workflow: Workflow) -> None:
    answer = acme.browser().post(run_url(workflow), {"input": '{"more": 1}', "_fields": ""})

    assert "has no fields for some of this" in str(answer.context["form"].errors["input"])


def test_schema_without_properties_is_asked_as_json(acme: World) -> None:
    spec = {**deepcopy(REPORT), "inputs": {"type": "object", "required": ["topic"]}}
    workflow = published(acme, spec).workflow

    shown = page(acme, workflow)

    assert 'name="input"' in shown
    assert "Show as" not in shown


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("{}", "topic is required"),
        ('{"topic": 5}', "topic:"),
        ('{"topic": "x"', "line 1"),
        ("[]", "object"),
    ],
)
def test_wrong_json_is_told_at_the_box(
    acme: World, workflow: Workflow, given: str, said: str
) -> None:
    answer = acme.browser().post(run_url(workflow), {"input": given})

    assert said in str(answer.context["form"].errors["input"])


def test_right_json_starts_a_run_and_leads_to_its_page(acme: World) -> None:
    workflow = published(acme).workflow

    answer = acme.browser().post(run_url(workflow), {"input": '{"topic": "tides"}', "priority": 7})

    with acme.scope():
        run = Run.objects.get()
    assert answer["Location"] == reverse("admin:orchestrator_run_change", args=[run.pk])
    assert (run.input, run.priority, run.started_by["label"]) == (
        {"topic": "tides"},
        7,
        acme.owner.username,
    )


def test_property_of_any_name_is_asked_and_told_about(acme: World) -> None:
    odd = 'a/b~c"><script>'
    inputs = {"required": [odd], "properties": {odd: {"type": "string", "title": "<i>odd</i>"}}}
    workflow = published(acme, {**deepcopy(REPORT), "inputs": inputs, "steps": STEPS}).workflow

    shown = page(acme, workflow)
    refused = send(acme, workflow)
    accepted = acme.browser().post(run_url(workflow), {"in-0": "x"})

    assert "<i>odd" not in shown
    assert "<script>" not in shown.partition('id="run_form"')[2].partition("</form>")[0]
    assert "is required" in str(refused.context["form"].errors["in-0"])
    assert accepted.status_code == 302
    assert input_of(acme) == {odd: "x"}


OPTIONS = {
    "priority": "8",
    "deadline": "1h30m",
    "max_cost_nano": "0.50",
    "metadata": '{"ticket": "A-17"}',
}


def test_run_is_given_its_priority_deadline_cap_and_metadata(
    acme: World, workflow: Workflow
) -> None:
    send(acme, workflow, topic="tides", name="Ada", **OPTIONS)

    with acme.scope():
        run = Run.objects.get()
    assert (run.priority, run.deadline_seconds, run.metadata) == (8, 5400, {"ticket": "A-17"})
    assert run.deadline_at is not None
    assert run.max_cost_nano == 500_000_000


@pytest.mark.parametrize(
    ("field", "given", "said"),
    [
        ("deadline", "0s", "more than 0s"),
        ("deadline", "-5m", "such as 30s"),
        ("deadline", "yesterday", "such as 30s"),
        ("deadline", "99999h", "at most 366 days"),
        ("max_cost_nano", "-1", "such as 0.50"),
        ("max_cost_nano", "1e5", "such as 0.50"),
        ("metadata", "[1]", "JSON object"),
        ("metadata", json.dumps(dict.fromkeys(map(str, range(51)))), "At most 50"),
        ("priority", "11", "less than or equal to 10"),
    ],
)
def test_option_that_cannot_be_is_told_at_its_field(
    acme: World, workflow: Workflow, field: str, given: str, said: str
) -> None:
    answer = send(acme, workflow, topic="tides", name="Ada", **{field: given})

    assert said in str(answer.context["form"].errors[field])
    with acme.scope():
        assert not Run.objects.exists()


def test_options_are_kept_when_the_form_turns_into_json_and_back(
    acme: World, workflow: Workflow
) -> None:
    as_json = send(acme, workflow, topic="tides", name="Ada", _json="", **OPTIONS)
    raw = form_data(as_json.content.decode(), "run_form")
    as_form = acme.browser().post(run_url(workflow), {**raw, "_fields": ""})

    for answer in (as_json, as_form):
        shown = form_data(answer.content.decode(), "run_form")
        assert (shown["priority"], shown["deadline"]) == (["8"], ["1h30m"])
        assert shown["max_cost_nano"] == ["0.50"]
        assert json.loads(shown["metadata"][0]) == {"ticket": "A-17"}
