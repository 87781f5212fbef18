"""The pages as a person meets them: the real web server, the real database, real Chromium."""

import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from orchestrator.embedded.commands import web
from orchestrator.embedded.ports import free_port
from tests.eventually import eventually
from tests.world import World

ROOT = Path(__file__).resolve().parents[2]
# No sandbox, since CI runs as root; no calls home, which a closed network would only delay.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def _chromium_path() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser")


# No longer than it is used: while Playwright runs, its event loop keeps other tests from theirs.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = _chromium_path()
    if path is None:
        missing = "Chromium is not installed; `apt-get install chromium` brings it."
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        # Playwright keeps an event loop in this thread, which Django takes for async code.
        os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
        yield browser
        del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]
        browser.close()


@pytest.fixture(scope="session")
def site(django_db_setup: None) -> Iterator[str]:
    """The address of the web process, started as it is started in production."""
    port = free_port()
    command = web("--host", "127.0.0.1", "--port", str(port), "--workers", "1")
    address = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}) as process:
        try:
            eventually(lambda: _answers(f"{address}/admin/login/"), within=60)
            yield address
        finally:
            process.terminate()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture
def page(chromium: Browser, site: str) -> Iterator[Page]:
    """A fresh visitor. A script's error or a missing file fails the test at its end."""
    context = chromium.new_context(base_url=site, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("response", lambda answer: _note_failure(answer, wrong))
    yield page
    context.close()
    assert wrong == []


def _note_failure(answer: Any, wrong: list[str]) -> None:
    if answer.status >= 500 or (answer.status == 404 and "/static/" in answer.url):
        wrong.append(f"{answer.status} {answer.url}")


def log_in(page: Page, world: World) -> None:
    page.goto("/admin/login/")
    page.get_by_label("Username").fill(world.owner.username)
    page.get_by_label("Password").fill("secret")
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/admin/")
