"""Limits over REST: kept, refused with the field that is wrong, and shown with their usage."""

from typing import Any
from uuid import UUID

import pytest
from django.test import Client

from orchestrator.core.limits import CallFacts, Unit
from orchestrator.limits import limits
from orchestrator.limits.limiter import RESTORING
from orchestrator.models import RateLimit
from tenants.kernel.models import uuid7
from tenants.models import Credential, Project
from tenants.services.credentials import create_credential
from tests.eventually import eventually
from tests.rest import get, post, published
from tests.world import World

PER_MINUTE = {"scope": "tenant", "unit": "requests", "period": "minute", "limit": 60}


def credential(world: World, name: str) -> Credential:
    with world.scope():
        return create_credential(name=name, provider="openai", secret="sk-0123456789")


def create(acme: World, **changes: Any) -> Any:
    return post(acme.client(), "rate-limits", {**PER_MINUTE, **changes})


def call(acme: World) -> CallFacts:
    call_id = uuid7()
    return CallFacts(
        call_id=call_id,
        waiter=str(call_id),
        tenant_id=acme.tenant.id,
        weight=1,
        project_id=acme.project.id,
        workflow_id=UUID(int=1),
        agent="",
        provider="simulated",
        model=f"of-{acme.tenant.slug}",
        credential_id=None,
        amounts={Unit.REQUESTS: 1},
        hold_nano=0,
        budgets=(),
    )


def test_limit_is_kept_changed_and_deleted(acme: World) -> None:
    client = acme.client()

    created = post(client, "rate-limits", {**PER_MINUTE, "capacity": 10})
    assert created.status_code == 201
    address = created.headers["Location"]
    assert get(client, address).json()["capacity"] == 10
    changed = client.patch(address, {"limit": 120}, content_type="application/json")
    assert (changed.status_code, changed.json()["limit"]) == (200, 120)
    assert client.delete(address).status_code == 204
    assert get(client, address).status_code == 404


def test_limits_of_every_scope_name_their_object(acme: World) -> None:
    workflow = published(acme)
    post(acme.client(), "agents", {"slug": "writer"})

    shown = [
        create(acme, scope="project", project="main").json(),
        create(acme, scope="workflow", workflow=workflow["name"]).json(),
        create(acme, scope="agent", agent="writer", unit="concurrent", period="").json(),
    ]

    assert create(acme, scope="credential", credential="none").status_code == 404
    assert shown[0]["project"]["slug"] == "main"
    assert shown[1]["workflow"]["id"] == workflow["id"]
    assert shown[2]["agent"] == "writer"


@pytest.mark.parametrize(
    ("wrong", "at", "code"),
    [
        ({"limit": 0}, "/limit", "too_small"),
        ({"limit": -5}, "/limit", "too_small"),
        ({"limit": 10**13}, "/limit", "too_large"),
        ({"limit": 2**70}, "/limit", "max_value"),
        ({"limit": 1.5}, "/limit", "invalid"),
        ({"limit": "60"}, "/limit", "invalid"),
        ({"capacity": 0}, "/capacity", "too_small"),
        ({"unit": "total_tokens", "limit": 100}, "/limit", "below_one_call"),
        ({"unit": "output_tokens", "limit": 10**6, "capacity": 5}, "/capacity", "below_one_call"),
        ({"unit": "concurrent", "limit": 10**6, "period": ""}, "/limit", "too_large"),
        ({"unit": "concurrent"}, "/period", "not_for_concurrent"),
        ({"unit": "bytes"}, "/unit", "invalid_choice"),
        ({"period": "week"}, "/period", "invalid_choice"),
        ({"period": ""}, "/period", "required"),
        ({"counting": "calendar", "period": "day"}, "/time_zone", "required"),
        ({"counting": "calendar", "time_zone": "UTC"}, "/period", "not_a_day"),
        ({"counting": "calendar", "period": "day", "time_zone": "Mars"}, "/time_zone", "unknown"),
        ({"time_zone": "UTC"}, "/time_zone", "not_for_this_counting"),
        ({"counting": "window", "capacity": 5}, "/capacity", "not_for_this_counting"),
        ({"scope": "galaxy"}, "/scope", "invalid_choice"),
        ({"scope": "project"}, "/project", "required"),
        ({"project": "main"}, "/project", "not_for_this_scope"),
        ({"scope": "agent", "agent": "nobody"}, "/agent", "not_found"),
        ({"model": "gpt-4o"}, "/provider", "required"),
        ({"provider": "closedai"}, "/provider", "unknown"),
        ({"colour": "red"}, "/colour", "unknown_field"),
    ],
)
def test_nonsense_is_refused_at_its_field(
    acme: World, wrong: dict[str, Any], at: str, code: str
) -> None:
    answer = create(acme, **wrong)

    assert answer.status_code == 400
    assert (at, code) in [(error["loc"], error["code"]) for error in answer.json()["errors"]]


def test_unknown_project_is_not_found_at_its_field(acme: World, globex: World) -> None:
    answer = create(acme, scope="project", project=str(globex.project.id))

    assert answer.status_code == 404
    assert [error["loc"] for error in answer.json()["errors"]] == ["/project"]


def test_limit_of_a_credential_is_on_the_tenants_own_of_that_name(
    acme: World, globex: World
) -> None:
    ours, theirs = (credential(world, "main") for world in (acme, globex))

    limits = [create(world, scope="credential", credential="main") for world in (acme, globex)]

    named = [limit.json()["credential"] for limit in limits]
    assert named == [{"id": str(each.id), "name": "main"} for each in (ours, theirs)]
    assert create(acme, scope="credential", credential=str(theirs.id)).status_code == 404


def test_second_limit_on_the_same_is_refused(acme: World) -> None:
    assert create(acme).status_code == 201

    again = create(acme, limit=10)

    assert (again.status_code, again.json()["code"]) == (400, "rate_limit_invalid")
    assert again.json()["errors"][0]["loc"] == "/unit"
    assert create(acme, period="hour").status_code == 201


def test_key_of_a_project_sees_no_other_projects_limits(acme: World) -> None:
    with acme.scope():
        other = Project.objects.create(slug="other", name="Other")
        RateLimit.objects.create(**PER_MINUTE)
        RateLimit.objects.create(**{**PER_MINUTE, "scope": "project"}, project=other)
    key = acme.key(project=acme.project)
    narrowed = Client(headers={"authorization": f"Bearer {key}"})

    assert [row["scope"] for row in get(narrowed, "rate-limits").json()["results"]] == ["tenant"]
    seen = get(narrowed, "rate-limits/usage").json()["results"]
    assert [bucket["gate"] for bucket in seen] == ["tenant's own requests per minute"]
    assert post(narrowed, "rate-limits", PER_MINUTE).status_code == 403


def test_change_is_in_the_audit_log(acme: World) -> None:
    create(acme)

    actions = [entry["action"] for entry in get(acme.client(), "audit").json()["results"]]
    assert "rate_limit.created" in actions


def test_usage_shows_what_was_taken_and_who_waits(acme: World, globex: World) -> None:
    create(acme, limit=2)
    eventually(lambda: limits().admit(call(acme)).gate != RESTORING)
    waits = call(acme)
    assert limits().admit(call(acme)).granted
    assert not limits().admit(waits).granted

    (bucket,) = get(acme.client(), "rate-limits/usage").json()["results"]

    assert bucket["set_by"] == "tenant"
    assert 1.5 < bucket["used"] <= 2
    assert 45 < bucket["refills_in_seconds"] <= 60
    assert (bucket["grants"], bucket["denials"]) == (2, 1)
    assert [waiter["agent_run"] for waiter in bucket["waiting"]] == [waits.waiter]
    assert get(globex.client(), "rate-limits/usage").json()["results"] == []
