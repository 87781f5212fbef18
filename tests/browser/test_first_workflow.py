"""A newcomer's first hour: an agent, a workflow of two steps by hand, a mistake, a run."""

import json
import re

from playwright.sync_api import Page, expect

from orchestrator.models import Run
from tests.browser.conftest import log_in
from tests.world import World

SCHEMA = {
    "type": "object",
    "required": ["topic"],
    "properties": {"topic": {"type": "string", "minLength": 3}},
}


def test_from_nothing_to_a_run(page: Page, acme: World) -> None:
    log_in(page, acme)
    expect(page.get_by_text("Three steps to a first run")).to_be_visible()

    make_agent(page)
    build_workflow(page)
    see_the_mistake_at_its_field(page)
    mend_and_publish(page)
    run_it(page)

    with acme.scope():
        run = Run.objects.get()
    assert page.url.endswith(f"/admin/orchestrator/run/{run.pk}/change/")
    assert run.input == {"topic": "tides"}


def make_agent(page: Page) -> None:
    page.get_by_role("link", name="Agents", exact=True).click()
    page.get_by_role("link", name="Add agent").first.click()
    page.get_by_label("Name").press_sequentially("Writer")
    expect(page.get_by_label("Slug")).to_have_value("writer")
    page.get_by_label("Provider").select_option("simulated")
    page.get_by_label("Model").fill("sim")
    page.get_by_label("Prompt", exact=True).fill("Write about ${input.topic}.")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("link", name="writer").first).to_be_visible()


def build_workflow(page: Page) -> None:
    page.goto("/admin/orchestrator/workflow/add/")
    page.locator("#id_name").fill("first")
    page.locator("#id_inputs").fill(json.dumps(SCHEMA))
    page.locator("#id_steps-0-name").fill("write")
    page.locator("#id_steps-0-agent_source").select_option("writer")
    page.get_by_text("Add another Step").click()
    page.locator("#id_steps-1-name").fill("polish")
    page.locator("#id_steps-1-prompt").fill("Polish: ${steps.wriite.output}")
    page.locator("#id_steps-1-prompt").blur()
    page.locator("#id_steps-1-needs").get_by_label("write").check()
    open_limits(page, 1)
    page.locator("#id_steps-1-provider").select_option("simulated")
    page.locator("#id_steps-1-model").fill("sim")


def open_limits(page: Page, step: int) -> None:
    row = page.locator(".form-group", has=page.locator(f"#id_steps-{step}-name"))
    row.get_by_text("System prompt, model, tools and limits").click()


def see_the_mistake_at_its_field(page: Page) -> None:
    page.get_by_role("button", name="Save and validate").click()
    expect(page.locator("#report")).to_contain_text("in the way of publishing")
    prompt = page.locator(".field-prompt", has=page.locator("#id_steps-1-prompt"))
    expect(prompt).to_contain_text("There is no step `wriite`")


def mend_and_publish(page: Page) -> None:
    page.locator("#id_steps-1-prompt").fill("Polish: ${steps.write.output}")
    page.get_by_role("button", name="Save and publish").click()
    expect(page.get_by_text("Version 1 is published")).to_be_visible()
    expect(page.locator(".m-graph svg g.node")).to_have_count(2)
    expect(page.locator(".m-graph svg path.flowchart-link")).to_have_count(1)


def run_it(page: Page) -> None:
    page.get_by_role("link", name="Run", exact=True).click()
    topic = page.get_by_label("topic")
    page.get_by_role("button", name="Start the run").click()
    expect(page.get_by_role("alert")).to_contain_text("topic is required")

    topic.fill("tides")
    page.get_by_role("button", name="Show as JSON").click()
    expect(page.locator("#id_input")).to_have_value(re.compile('"topic": "tides"'))
    page.get_by_role("button", name="Show as a form").click()
    expect(topic).to_have_value("tides")
    page.get_by_role("button", name="Start the run").click()
    page.wait_for_url("**/admin/orchestrator/run/*/change/")
    expect(page.locator("#run-top")).to_contain_text("pending")
    expect(page.locator("#run-graph svg g.node.pending")).to_have_count(2)
