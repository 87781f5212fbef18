import csv
import io
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from tenants.kernel.models import uuid7
from tenants.models import Project
from tests.ledger import at, charge
from tests.rest import get, made, problems
from tests.world import World

NOVEMBER = "from=2026-11-01&to=2026-12-01"


def summary(world: World, query: str = "") -> dict[str, Any]:
    return made(get(world.client(), f"costs/summary?{NOVEMBER}&{query}"))


def costs(report: dict[str, Any], *keys: str) -> list[tuple[str, ...]]:
    return [(*(row[key] for key in keys), row["cost_usd"]) for row in report["rows"]]


def test_days_are_those_of_the_time_zone(acme: World) -> None:
    charge(acme, held_at=at("2026-11-02 22:30"))
    charge(acme, held_at=at("2026-11-02 23:30"))

    assert costs(summary(acme), "day") == [("2026-11-02", "0.0008")]
    assert costs(summary(acme, "tz=Europe/Berlin"), "day") == [
        ("2026-11-02", "0.0004"),
        ("2026-11-03", "0.0004"),
    ]


def test_range_of_days_begins_and_ends_at_midnight_of_the_time_zone(acme: World) -> None:
    charge(acme, held_at=at("2026-10-31 23:30"))
    charge(acme, held_at=at("2026-11-30 23:30"))

    berlin = summary(acme, "tz=Europe/Berlin")

    assert costs(berlin, "day") == [("2026-11-01", "0.0004")]
    assert (berlin["from"], berlin["to"]) == (
        "2026-10-31T23:00:00.000000Z",
        "2026-11-30T23:00:00.000000Z",
    )


@pytest.mark.parametrize(("zone", "hours"), [("Europe/Berlin", 25), ("UTC", 24)])
def test_day_on_which_the_clocks_change_is_whole(acme: World, zone: str, hours: int) -> None:
    for hour in range(-3, 27):
        charge(acme, amount_nano=1, held_at=at("2026-10-25 00:00") + timedelta(hours=hour))

    query = f"costs/summary?from=2026-10-25&to=2026-10-26&tz={zone}"

    assert made(get(acme.client(), query))["total"]["calls"] == hours


def test_late_correction_belongs_to_the_time_of_its_call(acme: World) -> None:
    call = {"call_id": uuid7(), "held_at": at("2026-11-30 23:59")}
    charge(acme, **call, kind="in_doubt", amount_nano=1_000_000)
    charge(acme, **call, kind="correction", amount_nano=-250_000, at=at("2026-12-01 09:00"))

    report = summary(acme)

    (row,) = report["rows"]
    assert (row["day"], row["calls"], row["cost_usd"]) == ("2026-11-30", 1, "0.00075")
    assert (row["in_doubt_usd"], row["corrections_usd"]) == ("0.001", "-0.00025")


def test_estimated_cost_and_failed_calls_have_columns(acme: World) -> None:
    charge(acme, held_at=at("2026-11-05 12:00"), estimated=True)
    charge(acme, held_at=at("2026-11-05 12:00"), kind="failed", amount_nano=0)

    total = summary(acme)["total"]

    assert (total["cost_usd"], total["estimated_usd"]) == ("0.0004", "0.0004")
    assert (total["calls"], total["failed_calls"]) == (2, 1)


def test_tokens_are_summed_up_by_class(acme: World) -> None:
    tokens = {"input": 100, "cached": 60, "cache_write": 10, "output": 7, "reasoning": 5}
    for _ in range(2):
        stated = {f"{name}_tokens": count for name, count in tokens.items()}
        charge(acme, held_at=at("2026-11-05 12:00"), **stated)

    assert summary(acme)["total"]["tokens"] == {name: 2 * n for name, n in tokens.items()}


def test_groups_combine(acme: World) -> None:
    day = at("2026-11-05 12:00")
    charge(acme, held_at=day, provider="openai", model="gpt-5.2", amount_nano=3)
    charge(acme, held_at=day, provider="router", model="gpt-5.2", amount_nano=2, role="planner")
    charge(acme, held_at=day, provider="openai", model="gpt-5.2", amount_nano=4, agent="writer")

    by_model = summary(acme, "group_by=model")
    by_role_and_agent = summary(acme, "group_by=role,agent")

    assert costs(by_model, "provider", "model") == [
        ("openai", "gpt-5.2", "0.000000007"),
        ("router", "gpt-5.2", "0.000000002"),
    ]
    assert costs(by_role_and_agent, "role", "agent") == [
        ("", "writer", "0.000000004"),
        ("", "", "0.000000003"),
        ("planner", "", "0.000000002"),
    ]


def test_projects_and_workflows_have_names(acme: World) -> None:
    facts = {"held_at": at("2026-11-05 12:00"), "workflow_id": uuid7()}
    charge(acme, **facts)

    (row,) = summary(acme, "group_by=project,workflow")["rows"]

    assert (row["project"], row["project_id"]) == ("main", str(acme.project.id))
    assert (row["workflow"], row["workflow_id"]) == ("greet", str(facts["workflow_id"]))


def test_csv_has_the_same_rows_and_defuses_formulas(acme: World) -> None:
    day = at("2026-11-05 12:00")
    call = uuid7()
    charge(acme, held_at=day, model="=HYPERLINK(1)", kind="in_doubt", call_id=call)
    charge(
        acme,
        held_at=day,
        model="=HYPERLINK(1)",
        kind="correction",
        call_id=call,
        amount_nano=-400_000,
    )
    address = f"costs/summary?{NOVEMBER}&group_by=day,model"

    by_name = get(acme.client(), f"{address}&format=csv")
    by_header = get(acme.client(), address, accept="text/csv")

    assert by_name.headers["Content-Type"].startswith("text/csv")
    assert by_name.content == by_header.content
    (line,) = csv.DictReader(io.StringIO(by_name.content.decode()))
    assert (line["day"], line["model"]) == ("2026-11-05", "'=HYPERLINK(1)")
    assert (line["cost_usd"], line["corrections_usd"]) == ("0", "-0.0004")


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("tz=Mars/Olympus", "/tz"),
        ("tz=../../etc/passwd", "/tz"),
        ("tz=localtime", "/tz"),
        ("group_by=colour", "/group_by"),
        ("group_by=day,agent,role,model", "/group_by"),
        ("from=yesterday", "/from"),
        ("from=2026-13-01", "/from"),
        ("from=2026-11-02&to=2026-11-02", "/to"),
        ("from=2026-11-03&to=2026-11-02", "/to"),
        ("from=1900-01-01", "/from"),
        ("from=0001-01-01&to=0001-01-02&tz=Asia/Tokyo", "/from"),
        ("tenants=some", "/tenants"),
        ("colour=red", "/colour"),
    ],
)
def test_bad_question_is_refused_at_its_field(acme: World, query: str, where: str) -> None:
    answer = get(acme.client(), f"costs/summary?{query}")

    assert answer.status_code == 400
    assert [place.replace("?", "/") for place, _ in problems(answer)] == [where]


def test_unknown_format_is_refused(acme: World) -> None:
    assert get(acme.client(), "costs/summary?format=xls").status_code == 404


def test_too_many_rows_are_refused(acme: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("costs.selectors.reports.MOST_ROWS", 1)
    charge(acme, model="a")
    charge(acme, model="b")

    answer = get(acme.client(), "costs/summary?group_by=model")

    assert (answer.status_code, answer.json()["code"]) == (400, "too_many_groups")


def test_stranger_sees_none_of_it(acme: World, globex: World) -> None:
    charge(acme, held_at=at("2026-11-05 12:00"))

    assert summary(globex)["rows"] == []


def test_key_of_a_project_sees_that_project(acme: World) -> None:
    with acme.scope():
        other = Project.objects.create(slug="other", name="Other")
    charge(acme, held_at=at("2026-11-05 12:00"))
    charge(acme, held_at=at("2026-11-05 12:00"), project_id=other.id, amount_nano=1)
    client = Client(headers={"authorization": f"Bearer {acme.key('costs:read', project=other)}"})

    narrowed = made(get(client, f"costs/summary?{NOVEMBER}"))

    assert narrowed["total"]["cost_usd"] == "0.000000001"
    assert made(get(client, "costs/forecast"))["tenant"]["id"] == str(acme.tenant.id)


def test_operator_sees_all_tenants(acme: World, globex: World) -> None:
    charge(acme, held_at=at("2026-11-05 12:00"))
    charge(globex, held_at=at("2026-11-05 12:00"), amount_nano=1)

    report = made(get(acme.operator(), f"costs/summary?{NOVEMBER}&tenants=all&group_by=tenant"))

    seen = {row["tenant_id"]: row["cost_usd"] for row in report["rows"]}
    assert report["tenant"] is None
    assert seen[str(acme.tenant.id)] == "0.0004"
    assert seen[str(globex.tenant.id)] == "0.000000001"


def test_nobody_else_sees_all_tenants(acme: World) -> None:
    for path in ("costs/summary", "costs/forecast"):
        assert get(acme.client(), f"{path}?tenants=all").status_code == 403


def test_forecast_of_a_new_tenant_says_that_it_cannot_tell(acme: World) -> None:
    charge(acme)

    told = made(get(acme.client(), "costs/forecast?tz=Asia/Tokyo"))

    assert (told["spent_usd"], told["forecast_usd"], told["days"]) == ("0.0004", None, 0)
    assert told["today"]["usual_usd"] is None
    assert told["today"]["is_unusual"] is False
