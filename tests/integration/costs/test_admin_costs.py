import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from tests.factories import make_tenant
from tests.ledger import at, charge
from tests.rest import get
from tests.world import World

NOVEMBER = {"first": "2026-11-01", "last": "2026-11-30"}


def page(client: Client, **query: Any) -> str:
    answer = client.get(reverse("admin:costs_costentry_report"), {**NOVEMBER, **query})
    assert answer.status_code == 200
    return answer.content.decode()


def test_days_and_groups_stand_in_the_table_with_their_sums(acme: World) -> None:
    charge(acme, held_at=at("2026-11-05 12:00"), model="a", amount_nano=3 * 10**9)
    charge(acme, held_at=at("2026-11-05 13:00"), model="b", amount_nano=2 * 10**9)
    charge(acme, held_at=at("2026-11-06 12:00"), model="b", amount_nano=2 * 10**9)

    html = page(acme.browser())

    assert "<strong>$5.00</strong>" in html  # the fifth
    assert html.count("local a") >= 2
    assert "$7.00 in all" in html
    assert '"label": "local b"' in html


def test_many_groups_are_shown_as_one(acme: World) -> None:
    for number in range(12):
        charge(acme, held_at=at("2026-11-05 12:00"), model=f"m{number}", amount_nano=10**9)

    html = page(acme.browser())

    assert "4 more" in html
    assert "$12.00 in all" in html


def test_time_zone_moves_the_days(acme: World) -> None:
    charge(acme, held_at=at("2026-10-31 23:30"), amount_nano=10**9)

    assert "$1.00 in all" in page(acme.browser(), tz="Europe/Berlin")
    assert "$0 in all" in page(acme.browser())


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"tz": "Mars/Olympus"}, "no such time zone"),
        ({"first": "2026-11-20", "last": "2026-11-10"}, "from the first to the last"),
        ({"first": "2020-01-01"}, "up to 366 days"),
        ({"first": "9999-12-01", "last": "9999-12-31"}, "less than or equal to"),
        ({"first": "soon"}, "Enter a valid date"),
        ({"group": "tenant"}, "Select a valid choice"),
        ({"group": "colour"}, "Select a valid choice"),
    ],
)
def test_bad_question_is_told_at_its_field(acme: World, query: dict[str, str], said: str) -> None:
    html = page(acme.browser(), **query)

    assert said in html
    assert "in all" not in html


def test_names_are_shown_and_not_run(acme: World) -> None:
    charge(acme, held_at=at("2026-11-05 12:00"), model="</script><script>alert(1)</script>")

    assert "<script>alert(1)" not in page(acme.browser())


def test_csv_link_leads_to_the_same_figures(acme: World) -> None:
    charge(acme, held_at=at("2026-11-30 12:00"), amount_nano=5)
    client = acme.browser()

    (link,) = re.findall(r'href="(/api/v1/costs/summary[^"]*)"', page(client))
    answer = get(client, link.replace("&amp;", "&"))

    assert (
        answer.content.decode().splitlines()[1].startswith("2026-11-30,local,smollm2,0.000000005")
    )


def test_all_tenants_are_for_operators(acme: World, globex: World) -> None:
    charge(globex, held_at=at("2026-11-05 12:00"), model=f"secret-{globex.tenant.slug}")
    operator = acme.operator()

    assert "secret-" not in page(acme.browser(), all_tenants="on")
    assert f"secret-{globex.tenant.slug}" in page(operator, all_tenants="on", group="model")
    assert globex.tenant.slug in page(operator, all_tenants="on", group="tenant")


def test_whoever_may_not_read_costs_is_refused(
    live_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer = make_tenant("viewer", role="viewer").browser()
    monkeypatch.setattr("tenants.principals.ROLE_SCOPES", {"viewer": frozenset({"runs:read"})})

    assert viewer.get(reverse("admin:costs_costentry_report")).status_code == 403


def test_menu_marks_where_we_are_once(acme: World) -> None:
    answer = acme.browser().get(reverse("admin:costs_costentry_report"))

    groups = answer.context["sidebar_navigation"]
    marked = [item["title"] for group in groups for item in group["items"] if item["active"]]
    assert marked == ["Costs"]


def test_what_costs_nothing_takes_no_place_in_the_chart(acme: World) -> None:
    charge(acme, held_at=at("2026-11-05 12:00"), model="dear", amount_nano=10**9)
    charge(acme, held_at=at("2026-11-05 12:00"), model="free", amount_nano=0)

    html = page(acme.browser())

    assert '"label": "local dear"' in html
    assert '"label": "local free"' not in html
    assert '<th scope="row">local free</th>' in html


def test_columns_without_any_figure_are_left_out(acme: World) -> None:
    charge(acme, held_at=at("2026-11-05 12:00"), cached_tokens=4, input_tokens=9)

    html = page(acme.browser())

    assert ">Cached</th>" in html
    assert ">In doubt</th>" not in html


def test_spans_keep_the_rest_of_the_question(acme: World) -> None:
    html = page(acme.browser(), group="role", tz="Europe/Berlin")

    (link,) = re.findall(r'href="([^"]*)"[^>]*>Last 7 days<', html)
    assert "group=role" in link
    assert "tz=Europe%2FBerlin" in link
    assert acme.browser().get(f"{reverse('admin:costs_costentry_report')}{link}").status_code == 200
