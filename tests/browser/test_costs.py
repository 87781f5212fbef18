"""The pages about money: a chart where there are scripts, its figures everywhere."""

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import log_in
from tests.integration.costs.test_budgets import budget, hold, settle
from tests.ledger import charge
from tests.run_rows import make_run, published
from tests.world import World

REPORT = "/admin/costs/costentry/report/"


def spend(world: World) -> None:
    for model in ("a-rather-long-name-of-a-model-2026-11-01", "b", "c"):
        charge(world, model=model, amount_nano=10**9)


def test_chart_stands_above_its_figures_and_follows_the_colours(page: Page, acme: World) -> None:
    spend(acme)
    log_in(page, acme)
    page.goto(REPORT)

    expect(page.locator(".m-chart canvas")).to_be_visible()
    page.evaluate("document.documentElement.classList.toggle('dark')")
    expect(page.locator(".m-chart canvas")).to_be_visible()
    expect(page.get_by_role("columnheader", name="local b")).to_be_visible()


def test_figures_are_read_without_scripts(chromium: Browser, site: str, acme: World) -> None:
    spend(acme)
    context = chromium.new_context(base_url=site, java_script_enabled=False)
    page = context.new_page()
    log_in(page, acme)
    page.goto(REPORT)

    expect(page.locator(".m-chart")).to_be_hidden()
    expect(page.locator(".m-figures-table table")).to_be_visible()
    expect(page.get_by_text("$3.00 in all, days of UTC")).to_be_visible()
    context.close()


@pytest.mark.parametrize("address", [REPORT, "/admin/costs/budget/", "/admin/"])
def test_pages_fit_a_telephone(page: Page, acme: World, address: str) -> None:
    spend(acme)
    budget(acme, 10**9, name="A budget with quite a long name for such a narrow page")
    settle(acme, hold(acme, 10**8), spent=10**8)
    make_run(acme, published(acme), "pending", status="running")
    page.set_viewport_size({"width": 390, "height": 800})
    log_in(page, acme)

    page.goto(address)

    assert page.evaluate("document.documentElement.scrollWidth") <= 390
