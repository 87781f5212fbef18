"""Lines of the audit log say what they are about in words."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from orchestrator.models import Step, Workflow
from tenants.models import AuditEntry
from tenants.selectors.audit import audit_entries, with_labels
from tests.rest import get, made, post
from tests.world import World


@pytest.fixture
def workflow(acme: World) -> Workflow:
    with acme.scope():
        made_one = Workflow.objects.create(project=acme.project, name="report")
        for name in ("facts", "draft"):
            Step.objects.create(workflow=made_one, name=name)
    return made_one


def label(world: World, **facts: str) -> str:
    """What the API calls the object of the latest entry with these facts."""
    query = "&".join(f"{name}={value}" for name, value in facts.items())
    return made(get(world.client(), f"audit?{query}"))["results"][0]["object_label"]


def step(world: World, name: str) -> Step:
    with world.scope():
        return Step.objects.get(name=name)


def change(world: World, name: str) -> Step:
    row = step(world, name)
    with world.scope():
        row.prompt = "Hello"
        row.save(update_fields=["prompt"])
    return row


def test_changed_step_is_called_by_its_workflow_and_name(acme: World, workflow: Workflow) -> None:
    row = change(acme, "facts")

    assert label(acme, action="step.changed", object_id=str(row.id)) == "report / facts"


def test_single_entry_has_its_label_too(acme: World, workflow: Workflow) -> None:
    change(acme, "facts")
    (entry,) = made(get(acme.client(), "audit?action=step.changed"))["results"]

    assert made(get(acme.client(), f"audit/{entry['id']}")) == entry


def test_deleted_step_is_called_as_it_was(acme: World, workflow: Workflow) -> None:
    with acme.scope():
        step(acme, "facts").delete()

    assert label(acme, action="step.deleted") == "report / facts"
    assert label(acme, action="step.created", object_id=deleted_id(acme)) == "report / facts"


def deleted_id(world: World) -> str:
    with world.scope():
        return audit_entries(action="step.deleted").get().object_id


def test_step_whose_workflow_is_gone_keeps_its_own_name(acme: World, workflow: Workflow) -> None:
    assert acme.client().delete(f"/api/v1/workflows/{workflow.id}").status_code == 204

    assert label(acme, action="step.deleted") in {"facts", "draft"}
    assert label(acme, action="workflow.deleted") == "report"


def test_what_cannot_be_known_is_left_empty(acme: World, workflow: Workflow) -> None:
    row = change(acme, "facts")
    with acme.scope():
        row.delete()

    assert label(acme, action="step.changed", object_id=deleted_id(acme)) == ""


@pytest.mark.parametrize(
    ("kind", "called"), [("project", "Main"), ("membership", "acme-"), ("api_key", "test / mk_")]
)
def test_other_objects_are_called_by_their_names(acme: World, kind: str, called: str) -> None:
    assert label(acme, object_type=kind).startswith(called)


def test_admin_shows_the_label_in_the_list_and_on_the_page(acme: World, workflow: Workflow) -> None:
    row = change(acme, "facts")
    with acme.scope():
        entry = audit_entries(action="step.changed").get()
    client = acme.browser()

    listed = client.get(reverse("admin:tenants_auditentry_changelist")).content.decode()
    page = client.get(reverse("admin:tenants_auditentry_change", args=[entry.pk])).content.decode()

    assert "report / facts" in listed
    assert "report / facts" in page
    assert str(row.id) in page


def test_admin_writes_api_key_as_people_do(acme: World) -> None:
    acme.key()

    page = acme.browser().get(reverse("admin:tenants_auditentry_changelist")).content.decode()

    assert "API key <span" in page
    assert "api key" not in page


def test_names_are_no_markup(acme: World) -> None:
    made(post(acme.client(), "projects", {"slug": "x", "name": "<b>bold</b>"}))

    page = acme.browser().get(reverse("admin:tenants_auditentry_changelist")).content.decode()

    assert "<b>bold" not in page


def queries_for(entries: Any) -> int:
    listed = list(entries)
    with CaptureQueriesContext(connection) as asked:
        with_labels(listed)
    return len(asked)


def test_many_entries_of_a_table_ask_no_more_often_than_one(
    acme: World, workflow: Workflow
) -> None:
    with acme.scope():
        for number in range(20):
            Step.objects.create(workflow=workflow, name=f"more{number}")
        entries = AuditEntry.objects.filter(object_type="step", tenant=acme.tenant)

        assert queries_for(entries[:1]) == queries_for(entries) == 1


def test_label_of_a_stranger_is_not_told(acme: World, globex: World, workflow: Workflow) -> None:
    with acme.scope():
        entry = audit_entries(object_type="workflow").get()
    with globex.scope():
        forged = AuditEntry(object_type="workflow", object_id=entry.object_id)
        assert with_labels([forged])[0].object_label == ""
