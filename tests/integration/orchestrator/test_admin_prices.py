"""The price of a draft on its page."""

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from django.urls import reverse

from costs.models import TenantPrice
from orchestrator.admin import prices
from tests.run_rows import REPORT, make_run, published
from tests.world import World


@pytest.fixture
def paid(acme: World) -> World:
    with acme.scope():
        TenantPrice.objects.create(
            provider="simulated",
            model="sim",
            valid_from=date(2026, 1, 1),
            input_usd=Decimal("2.5"),
            output_usd=Decimal(10),
        )
    return acme


def card(world: World, spec: dict[str, Any] = REPORT, *, runs: int = 0) -> str:
    """The page's card, as its reader sees it."""
    version = published(world, spec)
    for _ in range(runs):
        make_run(world, version, "completed", status="completed")
    address = reverse("admin:orchestrator_workflow_change", args=[version.workflow_id])
    page = world.browser().get(address).content.decode()
    return page.partition('id="price-title"')[2].partition("</section>")[0]


def test_card_has_worst_and_expected_and_a_row_for_each_step(paid: World) -> None:
    shown = card(paid, runs=5)

    assert "Expected from 5 runs that completed." in shown
    assert "$0.0024" in shown  # five steps at 486,500 nano-USD
    assert "$0.00049" in shown
    assert shown.count('scope="row"') == 5


def test_card_says_why_there_is_no_worst_case(paid: World) -> None:
    each = {"agent": {"type": "prompt"}, "prompt": "x", "map": {"over": "${steps.a.output}"}}
    first = {"agent": {"type": "prompt"}, "prompt": "x", "output_schema": {"type": "array"}}
    steps = {"a": first, "b": {**each, "needs": ["a"]}}

    shown = card(paid, {**REPORT, "steps": steps})

    assert "no bound" in shown
    assert "Its map has no <code>max_items</code>" in shown
    assert "not run yet" in shown


def test_card_of_what_costs_nothing_is_short(acme: World) -> None:
    shown = card(acme)

    assert "None of its steps calls a model that costs anything." in shown
    assert "<table" not in shown


def test_card_shows_the_dearest_of_many_steps(paid: World, monkeypatch: Any) -> None:
    monkeypatch.setattr(prices, "_STEPS_SHOWN", 2)

    shown = card(paid)

    assert shown.count('scope="row"') == 2
    assert "The 2 dearest steps; 3 more are in the API." in shown
