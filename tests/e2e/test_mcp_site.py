"""Published workflows over MCP: the real web process and workers, and the official client."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import pytest
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from orchestrator.embedded.commands import web
from orchestrator.embedded.ports import LOOPBACK, free_port
from orchestrator.models import Run
from tests.e2e.programs import serving, spawn
from tests.rest import published
from tests.world import World

T = TypeVar("T")
WAIT = """\
muster: 1
name: wait
description: Waits for an hour.
steps:
  long: {delay: 1h}
"""
BREAK = """\
muster: 1
name: break
description: Breaks.
steps:
  sum: {agent: {type: tool, tool: calculator, arguments: {expression: "1 / 0"}}}
"""

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture(scope="module")
def site(django_db_setup: None, log_dir: Path) -> Iterator[str]:
    port = free_port()
    address = f"http://{LOOPBACK}:{port}"
    environment = {**os.environ, "MUSTER_MCP_WAIT_SECONDS": "3"}
    program = spawn(web("--port", str(port)), log=log_dir / "web.log", environment=environment)

    def is_ready() -> bool:
        try:
            return httpx2.get(f"{address}/health", trust_env=False).is_success
        except httpx2.TransportError:
            return False

    with serving(program, is_ready):
        yield address


@pytest.fixture(params=["auto", "legacy"])
def mode(request: pytest.FixtureRequest) -> str:
    """Both ways of beginning: with and without a handshake."""
    return str(request.param)


def said(site: str, key: str, ask: Callable[[Client], Awaitable[T]], *, mode: str = "auto") -> T:
    """What an official client gets with this key."""

    async def work() -> T:
        headers = {"Authorization": f"Bearer {key.strip()}"} if key else {}
        async with httpx2.AsyncClient(headers=headers, timeout=30, trust_env=False) as http:
            transport = streamable_http_client(f"{site}/mcp", http_client=http)
            async with Client(transport, mode=mode) as client:
                return await ask(client)

    return asyncio.run(work())


def call(site: str, key: str, name: str, arguments: dict[str, Any], **options: Any) -> Any:
    mode = options.pop("mode", "auto")
    return said(site, key, lambda c: c.call_tool(name, arguments, **options), mode=mode)


def test_published_workflow_is_a_tool_that_runs_it(site: str, acme: World, mode: str) -> None:
    published(acme)
    key = acme.key("runs:read", "runs:write")

    listed = said(site, key, lambda client: client.list_tools(), mode=mode)
    result = call(site, key, "greet", {"name": "Ada"}, mode=mode)

    tools = {tool.name: tool for tool in listed.tools}
    assert tools.keys() == {"greet", "get_run"}
    assert tools["greet"].description == "Greets, then counts the letters."
    assert tools["greet"].input_schema["required"] == ["name"]
    assert not result.is_error
    assert result.structured_content["status"] == "completed"
    assert result.structured_content["output"] == {"hello": "Hello Ada"}


def test_long_run_is_told_of_and_looked_at(site: str, acme: World, mode: str) -> None:
    published(acme, WAIT)
    key = acme.key("runs:read", "runs:write")
    heard: list[str] = []

    async def progress(done: float, total: float | None, message: str | None) -> None:
        heard.append(str(message))

    result = call(site, key, "wait", {}, mode=mode, progress_callback=progress)
    run_id = result.structured_content["run_id"]
    seen = call(site, key, "get_run", {"run_id": run_id}, mode=mode)

    assert not result.is_error
    assert result.structured_content["status"] == "running"
    assert "get_run" in result.structured_content["next"]
    assert f"0 steps of run {run_id} are done" in heard
    assert seen.structured_content["status"] == "running"
    assert result.structured_content["link"].startswith(site)


def test_failed_run_is_an_error_with_its_reason(site: str, acme: World) -> None:
    published(acme, BREAK)

    result = call(site, acme.key("runs:read", "runs:write"), "break", {})

    assert result.is_error
    assert result.structured_content["status"] == "failed"


def test_input_that_does_not_fit_is_told_place_by_place(site: str, acme: World) -> None:
    published(acme)

    result = call(site, acme.key("runs:read", "runs:write"), "greet", {"name": 5})

    assert result.is_error
    assert "/input/name" in result.content[0].text


def test_same_idempotency_key_starts_one_run(site: str, acme: World) -> None:
    published(acme)
    key, meta = acme.key("runs:read", "runs:write"), {"muster/idempotency-key": "order-7"}

    first, second = (call(site, key, "greet", {"name": "Ada"}, meta=meta) for _ in range(2))

    assert first.structured_content["run_id"] == second.structured_content["run_id"]
    with acme.scope():
        assert Run.objects.count() == 1


def test_stranger_has_neither_tools_nor_runs(site: str, acme: World, globex: World) -> None:
    published(acme)
    run_id = call(site, acme.key(), "greet", {"name": "Ada"}).structured_content["run_id"]
    key = globex.key()

    assert [tool.name for tool in said(site, key, lambda c: c.list_tools()).tools] == ["get_run"]
    assert call(site, key, "greet", {"name": "Ada"}).is_error
    assert call(site, key, "get_run", {"run_id": run_id}).is_error


def test_key_that_may_only_look_starts_nothing(site: str, acme: World) -> None:
    published(acme)

    result = call(site, acme.key("runs:read"), "greet", {"name": "Ada"})

    assert result.is_error
    assert "runs:write" in result.content[0].text


@pytest.mark.parametrize("key", ["", " mk_nobody"])
def test_nobody_comes_in_without_a_key(site: str, key: str) -> None:
    answer = httpx2.post(f"{site}/mcp", json={}, headers={"Authorization": f"Bearer{key}"})

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    with pytest.raises((MCPError, ExceptionGroup)):
        said(site, key, lambda client: client.list_tools())


def test_session_of_a_browser_is_no_key(site: str, acme: World) -> None:
    cookie = acme.browser().cookies["sessionid"].value

    answer = httpx2.post(f"{site}/mcp", json={}, cookies={"sessionid": cookie})

    assert answer.status_code == 401


def test_there_is_nothing_to_listen_to(site: str, acme: World) -> None:
    answer = httpx2.get(f"{site}/mcp", headers={"Authorization": f"Bearer {acme.key()}"})

    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"jsonrpc": "2.0"}', b"x" * 5_000_000])
def test_nonsense_is_refused(site: str, acme: World, body: bytes) -> None:
    headers = {
        "Authorization": f"Bearer {acme.key()}",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
    }

    answer = httpx2.post(f"{site}/mcp", content=body, headers=headers)

    assert 400 <= answer.status_code < 500
