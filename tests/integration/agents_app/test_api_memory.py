from typing import Any

import pytest
from django.urls import reverse

from agents_app.models import Agent, MemoryEntry
from tenants.models import AuditEntry
from tests.rest import call, get, made, post, problems
from tests.world import World

FACT = {"scope": "tenant", "content": {"note": "The vault is blue."}, "key": "vault"}


def test_people_teach_look_export_and_delete(acme: World) -> None:
    client = acme.client()
    entry = made(post(client, "memory", FACT))

    assert (entry["kind"], entry["version"], entry["owner"]) == ("note", 1, "")
    assert made(post(client, "memory", FACT))["version"] == 2
    assert made(get(client, f"memory/{entry['id']}"))["content"] == FACT["content"]
    (exported,) = made(get(client, "memory/export?scope=tenant"))["entries"]
    assert (exported["id"], exported["content"]) == (entry["id"], FACT["content"])
    assert call(client, "DELETE", f"memory/{entry['id']}").status_code == 204
    assert made(get(client, "memory"))["results"] == []
    with acme.scope():
        actions = AuditEntry.objects.filter(tenant=acme.tenant, object_type="memory_entry")
        assert {each.action.partition(".")[2] for each in actions} >= {"created", "deleted"}


def test_entries_are_filtered(acme: World) -> None:
    client = acme.client()
    with acme.scope():
        Agent.objects.create(slug="writer", name="Writer")
        MemoryEntry.objects.create(
            scope="tenant", key="k", kind="note", content=1, text="", fault="no"
        )
    made(post(client, "memory", FACT))
    made(post(client, "memory", {**FACT, "scope": "agent", "owner": "writer"}))

    def owners(query: str) -> list[str]:
        return [each["owner"] for each in made(get(client, f"memory?{query}"))["results"]]

    assert sorted(owners("set_aside=false")) == ["", "writer"]
    assert owners("set_aside=true") == [""]
    assert owners("scope=agent") == owners("owner=writer") == ["writer"]
    assert sorted(owners("search=blue vault")) == ["", "writer"]
    assert owners("search=green") == owners("kind=context") == []


@pytest.mark.parametrize(
    ("change", "at"),
    [
        ({"scope": "run"}, "/scope"),
        ({"kind": "rumour"}, "/kind"),
        ({"content": {"note": 1}}, "/content"),
        ({"content": {"note": "x" * 20_000}}, ""),
        ({"scope": "agent", "owner": "nobody"}, "/owner"),
        ({"owner": "writer"}, "/owner"),
        ({"days": 0}, "/days"),
        ({"key": " "}, ""),
    ],
)
def test_what_cannot_be_remembered_is_refused(acme: World, change: Any, at: str) -> None:
    answer = post(acme.client(), "memory", {**FACT, **change})

    assert answer.status_code == 400
    assert {place for place, _ in problems(answer)} <= {at}


def test_key_narrowed_to_a_project_sees_nothing_of_it(acme: World) -> None:
    key = acme.key(project=acme.project)

    answer = acme.client().get("/api/v1/memory", headers={"authorization": f"Bearer {key}"})

    assert answer.status_code == 403


def test_admin_lists_and_shows_entries(acme: World, globex: World) -> None:
    made(post(acme.client(), "memory", FACT))
    with acme.scope():
        entry = MemoryEntry.objects.get()
    browser = acme.browser()

    listed = browser.get(reverse("admin:agents_app_memoryentry_changelist"), {"scope": "tenant"})
    page = reverse("admin:agents_app_memoryentry_change", args=[entry.id])

    assert "The vault is blue." in listed.content.decode()
    assert "The vault is blue." in browser.get(page).content.decode()
    assert globex.browser().get(page).status_code == 404
