"""From the gallery to a run, without writing anything."""

from playwright.sync_api import Page, expect

from orchestrator.models import Run
from orchestrator.selectors.blueprints import blueprints
from tests.browser.conftest import log_in
from tests.world import World

NARROW = {"width": 390, "height": 844}


def test_blueprint_is_looked_at_adopted_and_run(page: Page, acme: World) -> None:
    log_in(page, acme)
    page.get_by_role("link", name="Choose a blueprint").click()
    expect(page.locator(".m-gallery > li")).to_have_count(len(blueprints()))
    page.get_by_role("link", name="blog-post").click()

    expect(page.locator(".m-graph svg g.node")).not_to_have_count(0)
    expect(page.get_by_text("Which model suits")).to_be_visible()
    page.set_viewport_size(NARROW)
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= NARROW["width"]
    page.get_by_label("Model provider").select_option("simulated")
    page.get_by_label("Model, if you choose a provider").fill("sim")
    page.get_by_role("button", name="Adopt, publish and run").click()

    expect(page.get_by_label("Topic")).to_have_value("How to mend a bicycle")
    page.get_by_role("button", name="Start the run").click()
    page.wait_for_url("**/admin/orchestrator/run/*/change/")
    with acme.scope():
        assert Run.objects.get().input == blueprints()["blog-post"].example
