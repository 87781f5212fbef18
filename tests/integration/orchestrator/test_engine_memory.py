"""Agents that forget the beginning of a long conversation forget the same when they go on."""

import re
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest

from agents_app.core import observations
from agents_app.core.errors import ProviderError, ProviderErrorKind
from agents_app.core.model import ModelReply, ModelRequest, ToolCall
from agents_app.core.tools import Toolbox, tool
from agents_app.core.values import text_size
from orchestrator.execution import gateway, tool_rows
from orchestrator.execution.providers import TenantClient
from orchestrator.services import agent_runs, workflows
from tests.engine_driver import drain, step_of
from tests.integration.orchestrator.test_engine_react import begin, die
from tests.requests_kept import whole_requests
from tests.scripted import Killed, reply
from tests.world import World

PAGES = 6
MEMORY = {"max_tokens": 1_500, "summary": True}


@tool()
def read(page: int) -> str:
    """Read a page."""
    return f"page {page} " + "x" * 1_800


@dataclass
class Reader:
    """Asks for page after page, as long as what it is asked is not too long for it."""

    holds_bytes: int = 10**9
    dies_at: int | None = None
    passed: list[str] = field(default_factory=list)
    refused: int = 0

    def complete(self, request: ModelRequest) -> ModelReply:
        if text_size(request.prompt_text) > self.holds_bytes:
            self.refused += 1
            raise ProviderError(ProviderErrorKind.CONTEXT_TOO_LONG, "too much", "simulated", 400)
        if request.system == observations.SUMMARY_RULES:
            return reply(request, "Read so far: " + request.messages[0].content[-40:])
        told = "".join(each.content for each in request.messages[-1].tool_results)
        found = re.search(r"page (\d)", told)
        page = int(found[1]) + 1 if found else 1
        return reply(request, "All read.") if page > PAGES else self._asks(request, page)

    def _asks(self, request: ModelRequest, page: int) -> ModelReply:
        return reply(request, "", ToolCall(id=f"p{page}", name="read", arguments={"page": page}))

    def crash_here(self, point: str) -> None:
        self.passed.append(point)
        if len(self.passed) == self.dies_at:
            raise Killed(point)


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Reader:
    reader = Reader()
    monkeypatch.setattr(gateway, "client_for_tenant", lambda name, **_: TenantClient(client=reader))
    for module in (agent_runs, gateway, tool_rows):
        monkeypatch.setattr(module, "crash_here", reader.crash_here)
    for module in (agent_runs, workflows):
        monkeypatch.setattr(module, "toolbox_of", lambda _: Toolbox([read]))
    return reader


def requests(world: World, run_id: UUID, status: str = "closed") -> dict[int, Any]:
    with world.scope():
        asked = whole_requests(run_id)
    return {each["turn"]: each for each in asked if each["status"] == status}


def test_long_conversation_is_cut_and_summed_up(acme: World, reader: Reader) -> None:
    run = drain(acme, begin(acme, memory=MEMORY))

    asked = requests(acme, run.id)
    assert (run.status, run.output) == ("completed", "All read.")
    assert any(each["system"] == observations.SUMMARY_RULES for each in asked.values())
    last = asked[max(asked)]["messages"]
    assert "<earlier_turns>\nRead so far:" in last[0]["content"]
    assert len(last) < 2 * PAGES


def test_wherever_its_worker_dies_the_heir_asks_the_very_same(acme: World, reader: Reader) -> None:
    # Nor is it shorter than what the model holds: what was refused as too long is remembered.
    reader.holds_bytes = 3_900
    memory = {**MEMORY, "max_tokens": 2_000}
    whole = drain(acme, begin(acme, memory=memory))
    expected, points = requests(acme, whole.id), list(reader.passed)
    assert (whole.status, reader.refused) == ("completed", 1)

    for dies_at in range(1, len(points) + 1):
        reader.dies_at, reader.refused = dies_at, 0
        reader.passed.clear()
        run_id = begin(acme, memory=memory)
        die(acme, run_id)
        run = drain(acme, run_id)

        assert (run.status, run.output) == ("completed", "All read."), points[dies_at - 1]
        assert requests(acme, run_id) == expected, points[dies_at - 1]


def test_without_memory_it_fails_where_it_is_too_long(acme: World, reader: Reader) -> None:
    reader.holds_bytes = 4_500

    run = drain(acme, begin(acme))

    assert run.status == "failed"
    assert "context too long" in step_of(acme, run.id, "a").error["message"]


def test_what_a_step_remembers_is_checked_as_it_is_published(acme: World) -> None:
    agent = {"type": "react", "provider": "simulated", "model": "sim", "memory": {"summary": 1}}
    steps = {"a": {"agent": agent, "prompt": "Go.", "memory": {"max_tokens": 3, "recal": 1}}}

    with acme.scope():
        problems = workflows.validate_spec({"name": "acme-report", "steps": steps})

    assert {problem.loc for problem in problems} == {
        "/steps/a/memory/max_tokens",
        "/steps/a/memory/recal",
    }
