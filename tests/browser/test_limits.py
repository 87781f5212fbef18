"""The page of limits in a browser: it moves by itself, fits its window, and keeps what is typed."""

import pytest
from playwright.sync_api import Page, expect

from orchestrator.limits import limits
from orchestrator.limits.limiter import RESTORING
from orchestrator.limits.scopes import forget
from orchestrator.models import RateLimit
from tests.browser.conftest import log_in
from tests.browser.test_pages import RUNNING
from tests.eventually import eventually
from tests.limiters import call
from tests.run_rows import make_run, published
from tests.world import World

PAGE = "/admin/orchestrator/ratelimit/"


def limited(world: World) -> dict[str, RateLimit]:
    tokens = {"unit": "total_tokens", "period": "minute", "limit": 40_000}
    project = {"scope": "project", "project": world.project, "provider": "simulated"}
    with world.scope():
        rows = {
            "requests": RateLimit(scope="tenant", unit="requests", period="minute", limit=6),
            "tokens": RateLimit(**project, **tokens),
            "places": RateLimit(scope="tenant", unit="concurrent", limit=8),
        }
        for row in rows.values():
            row.save()
    forget()
    eventually(lambda: limits().admit(call(world)).gate != RESTORING)
    return rows


def test_page_follows_the_usage_and_keeps_what_is_typed(page: Page, acme: World) -> None:
    rows = limited(acme)
    log_in(page, acme)
    page.goto(PAGE)
    field = page.locator(f"#limit-{rows['requests'].pk} input[type=number]").first
    field.fill("77")
    live = page.locator(f"#live-{rows['requests'].pk}")
    expect(live).not_to_contain_text("facts")

    run = make_run(acme, published(acme), RUNNING, status="running")
    with acme.scope():
        agent_run = str(run.agent_runs.get(step="facts").pk)
    for _ in range(8):
        limits().admit(call(acme, waiter=agent_run))

    expect(live).to_contain_text("facts", timeout=8000)
    expect(field).to_have_value("77")


@pytest.mark.parametrize("width", [1280, 390])
def test_page_fits_its_window(page: Page, acme: World, width: int) -> None:
    limited(acme)
    page.set_viewport_size({"width": width, "height": 900})
    log_in(page, acme)
    page.goto(PAGE)

    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= width
