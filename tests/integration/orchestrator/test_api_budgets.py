from typing import Any

import pytest
from django.test import Client

from agents_app.models import Agent
from costs.models import Budget, CostAlert
from tenants.kernel.models import uuid7
from tenants.models import Project
from tests.integration.costs.test_budgets import budget, hold, settle
from tests.rest import call, get, made, post, problems, published, started
from tests.world import World

TENANT = {"name": "November", "scope": "tenant", "limit_usd": "0.5"}


def create(world: World, **body: Any) -> dict[str, Any]:
    return made(post(world.client(), "budgets", {**TENANT, **body}))


def change(world: World, row: dict[str, Any], **body: Any) -> Any:
    return call(world.client(), "PATCH", f"budgets/{row['id']}", body)


def listed(world: World, query: str = "") -> list[str]:
    return [row["id"] for row in made(get(world.client(), f"budgets?{query}"))["results"]]


def test_budget_is_made_with_what_is_usual(acme: World) -> None:
    row = create(acme)

    assert (row["interval"], row["time_zone"], row["is_hard"]) == ("month", "UTC", True)
    assert (row["thresholds"], row["limit_usd"]) == ([50, 80, 100], "0.5")
    assert (row["period"]["spent_usd"], row["period"]["left_usd"]) == ("0", "0.5")
    assert row["period"]["ends_at"] > row["period"]["starts_at"]


def test_period_shows_what_is_spent_held_and_left(acme: World) -> None:
    row = create(acme, interval="total", limit_usd="0.0000001")
    settle(acme, hold(acme, 40), spent=30)
    hold(acme, 20)

    period = made(get(acme.client(), f"budgets/{row['id']}"))["period"]

    assert (period["spent_usd"], period["held_usd"]) == ("0.00000003", "0.00000002")
    assert (period["left_usd"], period["starts_at"]) == ("0.00000005", None)


def test_each_scope_names_what_it_is_for(acme: World) -> None:
    workflow = published(acme)
    with acme.scope():
        Agent.objects.create(slug="writer", name="Writer")

    of_project = create(acme, scope="project", scope_id=str(acme.project.id))
    of_workflow = create(acme, scope="workflow", scope_id=workflow["id"])
    of_agent = create(acme, scope="agent", agent="writer")

    names = [row["scope_name"] for row in (of_project, of_workflow, of_agent)]
    assert names == ["project main", "workflow greet", "agent writer"]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"limit_usd": "-1"}, ("/limit_usd", "usd")),
        ({"limit_usd": "1e9"}, ("/limit_usd", "usd")),
        ({"limit_usd": "99999999999"}, ("/limit_usd", "usd")),
        ({"limit_usd": "0.0000000001"}, ("/limit_usd", "usd")),
        ({"limit_usd": 5}, ("/limit_usd", "invalid")),
        ({"thresholds": [0]}, ("/thresholds/0", "min_value")),
        ({"thresholds": [5000]}, ("/thresholds/0", "max_value")),
        ({"thresholds": list(range(1, 12))}, ("/thresholds", "max_length")),
        ({"time_zone": "Mars/Olympus"}, ("/time_zone", "time_zone")),
        ({"interval": "week"}, ("/interval", "invalid_choice")),
        ({"scope": "world"}, ("/scope", "invalid_choice")),
        ({"scope": "project"}, ("/scope_id", "scope")),
        ({"scope_id": str(uuid7())}, ("/scope_id", "scope")),
        ({"scope": "agent"}, ("/agent", "scope")),
        ({"agent": "writer"}, ("/agent", "scope")),
        ({"scope": "run", "scope_id": str(uuid7())}, ("/scope", "run_budget")),
        ({"is_operators": True}, ("/is_operators", "unknown_field")),
        ({"name": ""}, ("/name", "blank")),
    ],
)
def test_bad_budget_is_refused_at_its_field(
    acme: World, body: dict[str, Any], problem: tuple[str, str]
) -> None:
    answer = post(acme.client(), "budgets", {**TENANT, **body})

    assert answer.status_code == 400
    assert problems(answer) == {problem}


def test_time_zone_that_only_we_know_is_refused(
    acme: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("costs.api.serializers.zone_or_none", lambda name: name)

    answer = post(acme.client(), "budgets", {**TENANT, "time_zone": "Mars/Olympus"})

    assert problems(answer) == {("/time_zone", "time_zone")}


@pytest.mark.parametrize("scope", ["project", "workflow"])
def test_what_belongs_to_a_stranger_gets_no_budget(acme: World, globex: World, scope: str) -> None:
    stranger = {"project": globex.project.id, "workflow": published(globex)["id"]}[scope]

    answer = post(acme.client(), "budgets", {**TENANT, "scope": scope, "scope_id": str(stranger)})

    assert answer.status_code == 404


def test_unknown_agent_gets_no_budget(acme: World) -> None:
    answer = post(acme.client(), "budgets", {**TENANT, "scope": "agent", "agent": "nobody"})

    assert answer.status_code == 404


def test_second_budget_of_the_same_scope_and_period_is_refused(acme: World) -> None:
    create(acme)
    create(acme, interval="day")

    answer = post(acme.client(), "budgets", {**TENANT, "name": "Another"})

    assert problems(answer) == {("/interval", "already_exists")}
    assert len(listed(acme)) == 2


def test_limit_below_what_is_spent_is_taken_with_a_warning(acme: World) -> None:
    row = create(acme, interval="total")
    settle(acme, hold(acme, 400), spent=300)

    changed = made(change(acme, row, limit_usd="0.0000002"))

    assert "nothing more is let through" in changed["warning"]
    assert (changed["period"]["left_usd"], changed["period"]["overrun_usd"]) == ("0", "0.0000001")
    assert made(change(acme, row, limit_usd="1"))["warning"] == ""


def test_what_a_budget_is_for_stays(acme: World) -> None:
    row = create(acme)

    answer = change(acme, row, scope="project", interval="day")

    assert problems(answer) == {("/scope", "unknown_field"), ("/interval", "unknown_field")}


def test_budget_is_deleted(acme: World) -> None:
    row = create(acme)

    assert call(acme.client(), "DELETE", f"budgets/{row['id']}").status_code == 204
    assert listed(acme) == []


def test_operators_budget_is_seen_and_not_touched(acme: World) -> None:
    kept = budget(acme, 100, is_operators=True)
    row = {"id": str(kept.id)}

    assert listed(acme) == [row["id"]]
    assert change(acme, row, limit_usd="9").status_code == 403
    assert call(acme.client(), "DELETE", f"budgets/{kept.id}").status_code == 403


def test_caps_of_runs_are_listed_apart_and_raised(acme: World) -> None:
    published(acme)
    run = started(acme, max_cost_usd="0.5")

    assert listed(acme) == []
    (cap,) = listed(acme, f"scope=run&scope_id={run['id']}")
    assert made(change(acme, {"id": cap}, limit_usd="0.75"))["limit_usd"] == "0.75"


def test_key_of_a_project_sees_its_budgets_and_changes_none(acme: World) -> None:
    with acme.scope():
        other = Project.objects.create(slug="other", name="Other")
    create(acme)
    row = create(acme, scope="project", scope_id=str(other.id))
    key = acme.key("costs:read", "admin", project=other)
    client = Client(headers={"authorization": f"Bearer {key}"})

    assert [b["id"] for b in made(get(client, "budgets"))["results"]] == [row["id"]]
    assert post(client, "budgets", {**TENANT, "interval": "day"}).status_code == 403


def test_key_of_a_project_sees_alerts_of_its_budgets_and_runs(acme: World) -> None:
    published(acme)
    run = started(acme)
    with acme.scope():
        other = Project.objects.create(slug="other", name="Other")
    whole, own = create(acme), create(acme, scope="project", scope_id=str(acme.project.id))
    facts = {"period": "2026-11", "spent_nano": 2, "limit_nano": 1}
    with acme.scope():
        alerts = [
            CostAlert.objects.create(kind="threshold", budget_id=own["id"], **facts),
            CostAlert.objects.create(kind="velocity", run_id=run["id"], **facts),
        ]
        CostAlert.objects.create(kind="threshold", budget_id=whole["id"], **facts)
        CostAlert.objects.create(kind="unusual", **facts)

    def seen(project: Project) -> set[str]:
        key = acme.key("costs:read", project=project)
        client = Client(headers={"authorization": f"Bearer {key}"})
        return {alert["id"] for alert in made(get(client, "costs/alerts"))["results"]}

    assert seen(acme.project) == {str(alert.id) for alert in alerts}
    assert seen(other) == set()


def test_operator_may_change_an_operators_budget(acme: World) -> None:
    kept = budget(acme, 100, is_operators=True)

    answer = call(acme.operator(), "PATCH", f"budgets/{kept.id}", {"limit_usd": "9"})

    assert answer.status_code == 200
    with acme.scope():
        assert Budget.objects.get().limit_nano == 9 * 10**9
