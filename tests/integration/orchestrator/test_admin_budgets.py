from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from costs.models import Budget, CostAlert
from tenants.kernel.models import uuid7
from tests.factories import make_tenant
from tests.integration.costs.test_budgets import budget, hold, settle
from tests.rest import published
from tests.world import World

LIST = "admin:costs_budget_changelist"
ADD = "admin:costs_budget_add"
FORM = {
    "name": "November",
    "target": "tenant:",
    "interval": "month",
    "time_zone": "Europe/Berlin",
    "limit": "0.50",
    "percentages": "80, 50 %, 100",
    "is_hard": "on",
    "is_enabled": "on",
}


def add(client: Client, **changes: Any) -> HttpResponse:
    return client.post(reverse(ADD), {**FORM, **changes})


def only(world: World) -> Budget:
    with world.scope():
        return Budget.objects.get()


def edit(world: World, row: Budget, **changes: Any) -> HttpResponse:
    address = reverse("admin:costs_budget_change", args=[row.pk])
    return world.browser().post(address, {**FORM, **changes}, follow=True)


def page(client: Client) -> str:
    return client.get(reverse(LIST)).content.decode()


def test_budget_is_made_in_the_form(acme: World) -> None:
    assert add(acme.browser()).status_code == 302

    made = only(acme)
    assert (made.limit_nano, made.thresholds) == (500_000_000, [50, 80, 100])
    assert (made.scope, made.time_zone, made.is_hard) == ("tenant", "Europe/Berlin", True)


def test_form_offers_what_the_tenant_has(acme: World, globex: World) -> None:
    workflow = published(acme)

    offered = acme.browser().get(reverse(ADD)).content.decode()
    add(acme.browser(), target=f"workflow:{workflow['id']}")

    assert f"project:{acme.project.id}" in offered
    assert f"project:{globex.project.id}" not in offered
    assert (only(acme).scope, str(only(acme).scope_id)) == ("workflow", workflow["id"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"limit": "-1"}, "Write an amount in USD"),
        ({"limit": "99999999999"}, "Write an amount in USD"),
        ({"limit": ""}, "required"),
        ({"percentages": "0"}, "Write numbers from 1"),
        ({"percentages": "half"}, "Write numbers from 1"),
        ({"percentages": ",".join(map(str, range(1, 12)))}, "at most 10"),
        ({"time_zone": "Mars/Olympus"}, "no such time zone"),
        ({"target": f"project:{uuid7()}"}, "Select a valid choice"),
        ({"name": ""}, "required"),
    ],
)
def test_bad_input_is_told_at_its_field(acme: World, changes: dict[str, str], said: str) -> None:
    answer = add(acme.browser(), **changes)

    assert said in answer.content.decode()
    with acme.scope():
        assert not Budget.objects.exists()


def test_second_budget_of_the_same_scope_and_period_is_refused(acme: World) -> None:
    add(acme.browser())

    answer = add(acme.browser(), name="Another")

    assert "has a budget for this period already" in answer.content.decode()
    assert only(acme).name == "November"


def test_limit_below_what_is_spent_is_taken_with_a_warning(acme: World) -> None:
    kept = budget(acme, 10**9)
    settle(acme, hold(acme, 9 * 10**8), spent=9 * 10**8)

    answer = edit(acme, kept, limit="0.5")

    assert "nothing more is let through" in answer.content.decode()
    assert only(acme).limit_nano == 500_000_000


def test_what_a_budget_is_for_stays(acme: World) -> None:
    kept = budget(acme, 10**9)

    edit(acme, kept, target=f"project:{acme.project.id}", interval="day", name="Renamed")

    assert (only(acme).scope, only(acme).interval, only(acme).name) == (
        "tenant",
        "total",
        "Renamed",
    )


def test_page_shows_bars_and_alerts(acme: World) -> None:
    budget(acme, 10**9, name="Whole")
    settle(acme, hold(acme, 6 * 10**8), spent=5 * 10**8)
    hold(acme, 10**8)
    with acme.scope():
        CostAlert.objects.create(
            kind="threshold",
            budget_name="Whole",
            period="total",
            threshold=50,
            spent_nano=5 * 10**8,
            limit_nano=10**9,
        )

    html = page(acme.browser())

    assert 'aria-label="$0.50 spent and $0.10 held of $1.00"' in html
    assert 'width="50.00"' in html
    assert "50 %" in html
    assert (
        "Whole" in acme.browser().get(reverse("admin:costs_costalert_changelist")).content.decode()
    )


def test_tenant_without_budgets_is_told_what_they_are(acme: World) -> None:
    assert "No budgets yet" in page(acme.browser())


def test_viewer_looks_and_stranger_sees_nothing(acme: World, globex: World) -> None:
    kept = budget(acme, 10**9, name="Secret plan")
    viewer = make_tenant("viewer", role="viewer").browser()

    assert "Secret plan" not in page(globex.browser())
    assert viewer.get(reverse(LIST)).status_code == 200
    assert add(viewer).status_code == 403
    strange = globex.browser().get(reverse("admin:costs_budget_change", args=[kept.pk]))
    assert strange.status_code == 404


def test_operators_budget_is_the_operators_to_change(acme: World) -> None:
    add(acme.operator(), is_operators="on")
    add(acme.browser(), is_operators="on", name="Own", interval="day")

    with acme.scope():
        kept = Budget.objects.get(is_operators=True)
        assert Budget.objects.filter(is_operators=False).count() == 1
    assert edit(acme, kept, limit="100").status_code == 403


def test_exhausted_budget_says_so(acme: World) -> None:
    budget(acme, 10**9, name="Spent")
    settle(acme, hold(acme, 9 * 10**8), spent=9 * 10**8)
    assert hold(acme, 2 * 10**8)["verdict"] == "exhausted"

    html = page(acme.browser())

    assert "exhausted" in html
    assert "m-bar-full" in html
    assert "90 %" in html


def test_form_of_a_budget_shows_what_is_spent(acme: World) -> None:
    kept = budget(acme, 10**9)
    settle(acme, hold(acme, 4 * 10**8), spent=4 * 10**8)

    form = acme.browser().get(reverse("admin:costs_budget_change", args=[kept.pk]))

    assert 'aria-label="$0.40 spent and $0 held of $1.00"' in form.content.decode()


def test_alert_leads_to_its_budget_while_there_is_one(acme: World) -> None:
    kept = budget(acme, 10**9, name="Whole")
    facts = {"kind": "threshold", "budget_id": kept.pk, "budget_name": "Whole"}
    with acme.scope():
        CostAlert.objects.create(
            **facts, period="total", threshold=50, spent_nano=5 * 10**8, limit_nano=10**9
        )
    address = reverse("admin:costs_budget_change", args=[kept.pk])

    assert page(acme.browser()).count(address) == 2
    with acme.scope():
        kept.delete()
    assert address not in page(acme.browser())
    assert "Whole" in page(acme.browser())
