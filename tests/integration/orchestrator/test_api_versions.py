from typing import Any

import pytest

from tenants.models import AuditEntry
from tests.rest import YAML, call, get, made, post, problems, published
from tests.world import World

CHANGED = YAML.replace("Hello", "Good evening").replace("mode: collect", "mode: concat")
CHANGED += "  last:\n    needs: [both]\n    agent: {type: aggregator, mode: collect}\n"


@pytest.fixture
def greeting(acme: World) -> dict[str, Any]:
    """Version 1 greets, version 2 greets in the evening."""
    workflow = published(acme)
    save(acme, workflow, CHANGED)
    made(post(acme.client(), f"workflows/{workflow['id']}/publish"))
    return workflow


def save(world: World, workflow: dict[str, Any], yaml: str) -> None:
    made(call(world.client(), "PUT", f"workflows/{workflow['id']}", yaml))


def differences(world: World, workflow: dict[str, Any], query: str = "") -> dict[str, Any]:
    return made(get(world.client(), f"workflows/{workflow['id']}/diff{query}"))


def draft(world: World, workflow: dict[str, Any]) -> dict[str, Any]:
    return made(get(world.client(), f"workflows/{workflow['id']}"))


def restore(world: World, workflow: dict[str, Any], number: int, body: Any = None) -> Any:
    path = f"workflows/{workflow['id']}/versions/{number}/restore"
    return post(world.client(), path, body)


def test_versions_are_compared_field_by_field_and_as_text(
    acme: World, greeting: dict[str, Any]
) -> None:
    found = differences(acme, greeting, "?from=1&to=2")

    assert (found["from"], found["to"], found["is_empty"]) == ("1", "2", False)
    assert found["workflow"] == []
    assert [(step["name"], step["change"]) for step in found["steps"]] == [
        ("hello", "changed"),
        ("both", "changed"),
        ("last", "added"),
    ]
    (change,) = next(step for step in found["steps"] if step["name"] == "hello")["fields"]
    assert change == {
        "loc": "/steps/hello/agent/arguments/value",
        "change": "changed",
        "before": "Hello ${input.name}",
        "after": "Good evening ${input.name}",
    }
    assert found["text"].startswith("--- version 1\n+++ version 2\n@@ ")
    assert "\n-        value: Hello ${input.name}\n" in found["text"]


def test_draft_is_compared_with_the_current_version_by_default(
    acme: World, greeting: dict[str, Any]
) -> None:
    assert differences(acme, greeting)["is_empty"]
    save(acme, greeting, YAML)

    found = differences(acme, greeting)

    assert (found["from"], found["to"]) == ("2", "draft")
    assert {step["name"] for step in found["steps"]} == {"hello", "both", "last"}
    assert differences(acme, greeting, "?from=draft&to=1")["is_empty"]


def test_workflow_that_was_never_published_has_nothing_to_compare_with(acme: World) -> None:
    workflow = made(post(acme.client(), "workflows", YAML))

    answer = get(acme.client(), f"workflows/{workflow['id']}/diff")

    assert (answer.status_code, answer.json()["code"]) == (409, "not_published")


@pytest.mark.parametrize("number", ["0", "-1", "x", "1.0", "99999999999", "drafts", "%00"])
def test_what_names_no_version_is_refused(
    acme: World, greeting: dict[str, Any], number: str
) -> None:
    answer = get(acme.client(), f"workflows/{greeting['id']}/diff?to={number}")

    assert answer.status_code == 400
    assert {loc for loc, _ in problems(answer)} == {"/to"}


def test_version_that_is_not_there_is_not_found(acme: World, greeting: dict[str, Any]) -> None:
    answer = get(acme.client(), f"workflows/{greeting['id']}/diff?from=7")

    assert answer.status_code == 404
    assert problems(answer) == {("/from", "not_found")}
    assert restore(acme, greeting, 7).status_code == 404


def test_restored_draft_is_the_version_and_nothing_is_published(
    acme: World, greeting: dict[str, Any]
) -> None:
    answer = restore(acme, greeting, 1)

    assert answer.status_code == 200
    assert answer.json()["version"] == 2
    assert differences(acme, greeting, "?from=1")["is_empty"]


def test_restoring_and_publishing_makes_a_new_version(
    acme: World, greeting: dict[str, Any]
) -> None:
    answer = restore(acme, greeting, 1, {"publish": True})

    assert answer.json()["version"] == 3
    assert differences(acme, greeting, "?from=1&to=3")["is_empty"]


def test_restoring_is_audited(acme: World, greeting: dict[str, Any]) -> None:
    restore(acme, greeting, 1, {"publish": True})

    with acme.scope():
        entry = AuditEntry.objects.get(tenant=acme.tenant, action="workflow.restored")
    assert (entry.object_id, entry.actor_kind) == (greeting["id"], "api_key")
    assert entry.after == {"version": 1, "published": 3}


def test_version_that_cannot_be_published_any_more_restores_nothing(
    acme: World, greeting: dict[str, Any]
) -> None:
    agent = made(post(acme.client(), "agents", {"slug": "gone", "name": "Gone", "prompt": "Hi"}))
    save(acme, greeting, YAML.replace("{type: aggregator, mode: collect}", "gone"))
    made(post(acme.client(), f"workflows/{greeting['id']}/publish"))
    save(acme, greeting, CHANGED)
    assert call(acme.client(), "DELETE", f"agents/{agent['id']}").status_code == 204
    before = draft(acme, greeting)

    answer = restore(acme, greeting, 3, {"publish": True})

    assert answer.status_code == 400
    assert draft(acme, greeting) == before


def test_viewer_compares_but_does_not_restore(acme: World, greeting: dict[str, Any]) -> None:
    reader = acme.client("workflows:read")

    assert get(reader, f"workflows/{greeting['id']}/diff").status_code == 200
    path = f"workflows/{greeting['id']}/versions/1/restore"
    assert post(reader, path).status_code == 403
