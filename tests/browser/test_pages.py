"""What only a browser can tell: that pages move, can be steered by keys, and fit their window."""

from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from orchestrator.dispatch.live import nudge
from orchestrator.models import Run
from tenants.kernel.clock import now
from tests.browser.conftest import log_in
from tests.integration.orchestrator.test_waiting import hold
from tests.run_rows import make_run, published, wide_spec
from tests.world import World

# Sooner than a page looks without having been told.
SOON = 3000
RUNNING = {
    "outline": "completed",
    "facts": "running",
    "quotes": "completed",
    "draft": "pending",
    "review": "pending",
}


def open_run(page: Page, world: World, run: Run) -> None:
    log_in(page, world)
    page.goto(f"/admin/orchestrator/run/{run.pk}/change/")


def happen(world: World, run: Run, kind: str, *, step: str = "", **changes: Any) -> None:
    """What the engine does: rows, an event with them, and a nudge behind them."""
    with world.scope():
        rows = run.agent_runs.filter(step=step) if step else Run.objects.filter(pk=run.pk)
        if changes:
            rows.update(**changes)
        run.events.create(tenant_id=run.tenant_id, type=kind, data={"step": step})
    nudge(run.pk)


def test_running_page_follows_the_run(page: Page, acme: World) -> None:
    run = make_run(acme, published(acme), RUNNING, status="running")
    open_run(page, acme, run)
    expect(page.locator("#agent")).to_contain_text("Still at work")
    expect(page.locator("#run-graph g.node.running")).to_have_count(1)

    ended = {"status": "completed", "output": "High water at noon.", "finished_at": now()}
    happen(acme, run, "agent.completed", step="facts", lease_until=None, **ended)

    expect(page.locator("#agent")).not_to_contain_text("Still at work", timeout=SOON)
    expect(page.locator("#run-graph g.node.running")).to_have_count(0)
    expect(page.locator("#run-graph g.node.completed")).to_have_count(3)


def test_page_stops_asking_when_the_run_has_ended(page: Page, acme: World) -> None:
    run = make_run(acme, published(acme), RUNNING, status="running")
    open_run(page, acme, run)

    happen(acme, run, "run.failed", status="failed", finished_at=now())

    expect(page.locator("#run-top")).to_contain_text("failed")
    assert page.locator("#run-top").get_attribute("data-is-live") == "no"
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(3000)
    assert asked == []


def test_much_that_happens_is_few_refreshes(page: Page, acme: World) -> None:
    run = make_run(acme, published(acme), RUNNING, status="running")
    open_run(page, acme, run)
    asked: list[str] = []
    page.on("request", lambda request: "/live/" in request.url and asked.append(request.url))

    for number in range(60):
        happen(acme, run, f"test.{number}")
    expect(page.locator("#event-lines")).to_contain_text("test.59")

    assert 1 <= len(asked) <= 12


def test_what_was_opened_and_scrolled_stays_while_the_page_moves(page: Page, acme: World) -> None:
    run = make_run(acme, published(acme), RUNNING, status="running")
    for number in range(40):
        happen(acme, run, f"test.{number}")
    open_run(page, acme, run)
    page.locator("#timeline a[data-step=outline]").click()
    expect(page.locator("#agent > h2")).to_contain_text("outline")
    page.locator("#events summary").click()
    page.locator("#events").scroll_into_view_if_needed()
    before = page.evaluate("scrollY")

    happen(acme, run, "agent.queued", step="draft")

    expect(page.locator("#event-lines")).to_contain_text("agent.queued")
    expect(page.locator("#event-lines table")).to_be_visible()
    expect(page.locator("#agent > h2")).to_contain_text("outline")
    assert page.evaluate("scrollY") == before


def test_page_of_another_tenants_run_hears_nothing(page: Page, acme: World, globex: World) -> None:
    run = make_run(globex, published(globex), RUNNING, status="running")
    log_in(page, acme)

    status = page.evaluate(
        "path => fetch(path, {headers: {Accept: 'text/event-stream'}}).then((a) => a.status)",
        f"/api/v1/runs/{run.pk}/events",
    )

    assert status == 404


def test_node_of_the_graph_selects_by_mouse_and_by_key(page: Page, acme: World) -> None:
    run = make_run(acme, published(acme), "completed", status="completed")
    open_run(page, acme, run)

    expect(page.get_by_role("button", name="review, completed", pressed=True)).to_be_visible()
    page.locator("g.node[data-step=outline]").click()
    expect(page.locator("#agent > h2")).to_contain_text("outline")

    page.locator("g.node[data-step=quotes]").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#agent > h2")).to_contain_text("quotes")
    assert "step=quotes" in page.url


def test_renamed_step_keeps_the_steps_that_need_it(page: Page, acme: World) -> None:
    workflow = published(acme).workflow
    log_in(page, acme)
    page.goto(f"/admin/orchestrator/workflow/{workflow.pk}/change/")

    page.locator("#id_steps-0-name").fill("plan")
    page.locator("#id_steps-0-name").blur()

    expect(page.locator("#id_steps-1-needs").get_by_label("plan")).to_be_checked()
    expect(page.locator("#id_steps-1-needs").get_by_label("outline")).to_have_count(0)


def test_page_of_what_waits_follows_it(page: Page, acme: World) -> None:
    log_in(page, acme)
    page.goto("/admin/waiting/")
    expect(page.get_by_text("Nothing waits at the moment")).to_be_visible()

    run = make_run(acme, published(acme), "pending", status="running")
    hold(acme, run, "facts", reason="rate_limited", gate="openai gpt-4o pause")

    expect(page.get_by_role("link", name="openai gpt-4o pause")).to_be_visible(timeout=15_000)
    page.get_by_role("link", name="openai gpt-4o pause").click()
    page.locator("#runs").get_by_role("link", name="report").click()
    page.get_by_role("link", name="openai gpt-4o pause").click()
    expect(page.locator("#runs")).to_contain_text("Runs that wait for openai gpt-4o pause")


def test_menu_of_tenants_switches(page: Page, acme: World, globex: World) -> None:
    from tenants.models import Membership

    with globex.scope():
        Membership.objects.create(user=acme.owner, role="viewer")
    log_in(page, acme)

    page.locator("summary.m-tenant").click()
    page.get_by_role("button", name="Globex").click()

    expect(page.locator("summary.m-tenant")).to_contain_text("Globex")


PAGES = [
    "/admin/",
    "/admin/waiting/",
    "/admin/orchestrator/run/",
    "/admin/orchestrator/run/{run}/change/",
    "/admin/orchestrator/run/{huge}/change/",
    "/admin/orchestrator/workflow/{workflow}/change/",
    "/admin/orchestrator/workflow/{workflow}/run/",
    "/admin/orchestrator/workflow/{workflow}/versions/1/",
    "/admin/agents_app/agent/add/",
    "/admin/tenants/apikey/add/",
    "/admin/costs/costentry/",
    "/admin/costs/costalert/",
    "/admin/providers/",
    "/admin/tools/",
    "/admin/tools/http_request/",
    "/admin/tenants/credential/add/",
]


@pytest.fixture(params=[1280, 390])
def width(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def test_pages_fit_their_window(page: Page, acme: World, width: int) -> None:
    version = published(acme)
    run = make_run(acme, version, RUNNING, status="running")
    huge = make_run(acme, published(acme, wide_spec(4, 100)), "completed", status="completed")
    log_in(page, acme)
    page.set_viewport_size({"width": width, "height": 844})

    for address in PAGES:
        page.goto(address.format(run=run.pk, huge=huge.pk, workflow=version.workflow.pk))
        assert page.evaluate("document.documentElement.scrollWidth") <= width, address


CONTRASTS = """() => [...document.querySelectorAll("#run-graph g.node")].map((node) => {
    const light = (color) => {
        const [r, g, b] = color.match(/[\\d.]+/g).map((part) => {
            const share = part / 255;
            return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const fill = light(getComputedStyle(node.querySelector("rect")).fill);
    const ink = light(getComputedStyle(node.querySelector(".nodeLabel")).color);
    return { fill, ratio: (Math.max(fill, ink) + 0.05) / (Math.min(fill, ink) + 0.05) };
})"""
STATES = {
    "outline": "completed",
    "facts": "failed",
    "quotes": "waiting",
    "draft": "cancelled",
    "review": "skipped",
}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_graph_is_legible_in_the_colours_of_the_theme(page: Page, acme: World, theme: str) -> None:
    run = make_run(acme, published(acme), STATES, status="failed")
    page.add_init_script(f"localStorage.setItem('adminTheme', '\"{theme}\"')")
    open_run(page, acme, run)
    expect(page.locator("#run-graph g.node")).to_have_count(5)

    nodes = page.evaluate(CONTRASTS)

    assert all(node["ratio"] >= 4.5 for node in nodes), nodes
    assert all((node["fill"] < 0.2) is (theme == "dark") for node in nodes), nodes


def test_timeline_of_a_narrow_window_shows_bars_and_figures(page: Page, acme: World) -> None:
    run = make_run(acme, published(acme), RUNNING, status="running")
    log_in(page, acme)
    page.set_viewport_size({"width": 390, "height": 844})

    page.goto(f"/admin/orchestrator/run/{run.pk}/change/")

    row = page.locator("#timeline tbody tr").first
    for shown in (row.locator("svg.m-bar"), row.get_by_text("412 + 187"), row.get_by_text("$0.0")):
        box = shown.bounding_box()
        assert box is not None
        assert box["width"] > 20
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390


def test_list_in_a_narrow_window_shows_all_of_its_texts(page: Page, acme: World) -> None:
    make_run(acme, published(acme), "failed", status="failed", reason="It failed. " * 10)
    log_in(page, acme)
    page.set_viewport_size({"width": 390, "height": 844})

    page.goto("/admin/orchestrator/run/")

    cell = page.locator("#result_list td.field-why")
    expect(cell).to_contain_text("It failed.")
    assert cell.evaluate("cell => cell.scrollHeight <= cell.clientHeight + 1")


def test_run_can_be_read_without_scripts(chromium: Browser, site: str, acme: World) -> None:
    run = make_run(acme, published(acme), "completed", status="completed")
    context = chromium.new_context(base_url=site, java_script_enabled=False)
    page = context.new_page()

    open_run(page, acme, run)
    page.get_by_role("link", name="outline").click()

    expect(page.locator("#agent")).to_be_visible()
    expect(page.locator("#agent")).to_contain_text("Do outline: tides")
    context.close()


def test_nothing_is_loaded_from_elsewhere(page: Page, acme: World, site: str) -> None:
    run = make_run(acme, published(acme), "completed", status="completed")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))

    open_run(page, acme, run)
    expect(page.locator("#run-graph g.node")).to_have_count(5)

    assert [url for url in asked if not url.startswith((site, "data:", "blob:"))] == []
