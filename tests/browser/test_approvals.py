"""The inbox of approvals, as people meet it."""

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import log_in
from tests.integration.orchestrator.test_approvals import asking, the_approval
from tests.world import World

INBOX = "/admin/orchestrator/approval/"
FORM = {
    "type": "object",
    "required": ["note"],
    "properties": {
        "note": {"type": "string", "title": "Why", "maxLength": 100},
        "channels": {"type": "array", "items": {"enum": ["web", "mail"]}},
    },
}
SHOW = (
    "## Tides\n\nHigh water at **noon**.\n\n" + "| place | range |\n|---|---|\n| Venice | 1 m |\n"
)


def test_question_is_found_and_decided_with_its_form(page: Page, acme: World) -> None:
    run_id = asking(acme, question="Publish ${input.title}?", show=SHOW, form=FORM)
    log_in(page, acme)

    page.get_by_role("link", name="Approvals 1 waiting for you").click()
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_text("note is required")).to_be_visible()
    page.get_by_label("Why").fill("All figures are right.")
    page.get_by_label("web").check()
    page.get_by_role("button", name="Approve").click()

    expect(page.get_by_text("Nothing waits for you")).to_be_visible()
    expect(page.get_by_role("link", name="waiting for you")).to_have_count(0)
    decided = the_approval(acme, run_id)
    assert (decided.status, decided.form) == (
        "approved",
        {"note": "All figures are right.", "channels": ["web"]},
    )


def test_enter_key_in_a_field_decides_nothing(page: Page, acme: World) -> None:
    run_id = asking(acme, form=FORM)
    log_in(page, acme)
    page.goto(INBOX)

    page.get_by_label("Why").fill("not yet")
    page.get_by_label("Why").press("Enter")

    expect(page.get_by_label("Why")).to_have_value("not yet")
    assert the_approval(acme, run_id).status == "open"


def test_page_of_the_run_leads_to_the_question(page: Page, acme: World) -> None:
    run_id = asking(acme)
    log_in(page, acme)
    page.goto(f"/admin/orchestrator/run/{run_id}/change/")

    page.get_by_role("link", name="Decide ok").click()
    page.get_by_role("button", name="Reject").click()

    expect(page.get_by_text("Rejected.")).to_be_visible()
    assert the_approval(acme, run_id).status == "rejected"


def test_decides_without_scripts(chromium: Browser, site: str, acme: World) -> None:
    run_id = asking(acme)
    context = chromium.new_context(base_url=site, java_script_enabled=False)
    page = context.new_page()
    log_in(page, acme)
    page.goto(INBOX)

    page.get_by_role("button", name="Approve").click()

    expect(page.get_by_text("Nothing waits for you")).to_be_visible()
    assert the_approval(acme, run_id).status == "approved"
    context.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_inbox_fits_its_window(page: Page, acme: World, width: int) -> None:
    asking(acme, question="Publish " + "this" * 60 + "?", show={"long": "x" * 400}, form=FORM)
    page.set_viewport_size({"width": width, "height": 900})
    log_in(page, acme)

    page.goto(INBOX)

    assert page.evaluate("document.documentElement.scrollWidth") <= width
