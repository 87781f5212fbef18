"""The whole way in one window: a workflow made by hand, executed by real worker processes."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests import workers
from tests.browser.conftest import log_in
from tests.browser.test_first_workflow import open_limits
from tests.e2e.stories import simulated, start
from tests.world import World

INPUTS = {
    "type": "object",
    "required": ["price", "fruit"],
    "properties": {"price": {"type": "integer", "minimum": 1}, "fruit": {"type": "string"}},
}
# The engine works meanwhile, on a machine that may be busy.
RUN_MILLISECONDS = 60_000


@pytest.fixture
def cluster(django_db_setup: None, tmp_path: Path) -> Iterator[None]:
    with workers.control("control-b", tmp_path), workers.agents("agents-b", tmp_path):
        yield


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("cluster")
def test_workflow_made_by_hand_is_executed_by_workers(page: Page, acme: World) -> None:
    log_in(page, acme)

    describe_workflow(page)
    tool_step(page, 0, "total", "calculator", {"expression": "${input.price} * 3"})
    page.get_by_text("Add another Step").click()
    tool_step(page, 1, "fruit", "echo", {"value": "${input.fruit}"})
    page.get_by_text("Add another Step").click()
    prompt_step(page, 2, "write", "Three ${steps.fruit.output} are ${steps.total.output}.")
    publish(page)
    run_with(page, {"price": 14, "fruit": "pears"})

    top = page.locator("#run-top")
    expect(top).to_contain_text("completed", timeout=RUN_MILLISECONDS)
    expect(page.locator("#run-graph svg g.node.completed")).to_have_count(3)
    see_what_steps_gave(page)


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("cluster")
def test_answer_is_read_while_it_is_written(page: Page, acme: World) -> None:
    text = "It was a dark and stormy night. " * 8
    log_in(page, acme)

    run_id = start(acme, {"tale": simulated("Tell.", text=text, latency=12.0)})
    page.goto(f"/admin/orchestrator/run/{run_id}/change/")

    says = page.locator("#agent-says")
    expect(says).to_contain_text("It was a dark", timeout=RUN_MILLISECONDS)
    assert len(says.text_content() or "") < len(text)
    expect(says).to_have_count(0, timeout=RUN_MILLISECONDS)
    expect(page.locator("#agent .m-prose")).to_have_text(text.strip())


def describe_workflow(page: Page) -> None:
    page.goto("/admin/orchestrator/workflow/add/")
    page.locator("#id_name").fill("fruit-prices")
    page.locator("#id_inputs").fill(json.dumps(INPUTS))


def tool_step(page: Page, number: int, name: str, tool: str, arguments: dict[str, object]) -> None:
    field = f"#id_steps-{number}-"
    page.locator(f"{field}name").fill(name)
    page.locator(f"{field}agent_type").select_option("tool")
    page.locator(f"{field}agent_more").fill(json.dumps({"tool": tool, "arguments": arguments}))


def prompt_step(page: Page, number: int, name: str, prompt: str) -> None:
    field = f"#id_steps-{number}-"
    page.locator(f"{field}name").fill(name)
    page.locator(f"{field}prompt").fill(prompt)
    page.locator(f"{field}prompt").blur()
    for needed in ("total", "fruit"):
        page.locator(f"{field}needs").get_by_label(needed).check()
    open_limits(page, number)
    page.locator(f"{field}provider").select_option("simulated")
    page.locator(f"{field}model").fill("sim")


def publish(page: Page) -> None:
    page.get_by_role("button", name="Save and publish").click()
    expect(page.get_by_text("Version 1 is published")).to_be_visible()
    expect(page.locator(".m-graph svg g.node")).to_have_count(3)


def run_with(page: Page, given: dict[str, object]) -> None:
    page.get_by_role("link", name="Run", exact=True).click()
    for name, value in given.items():
        page.get_by_label(name).fill(str(value))
    page.get_by_role("button", name="Start the run").click()
    page.wait_for_url("**/admin/orchestrator/run/*/change/")


def see_what_steps_gave(page: Page) -> None:
    agent = page.locator("#agent")
    page.locator("g.node[data-step=total]").click()
    expect(agent.locator("> h2")).to_contain_text("total")
    expect(agent).to_contain_text("42")
    page.locator("g.node[data-step=write]").click()
    expect(agent.locator("> h2")).to_contain_text("write")
    expect(agent).to_contain_text("Three <tool_output> pears </tool_output> are 42.")
    expect(agent).to_contain_text("agents-b@test")
