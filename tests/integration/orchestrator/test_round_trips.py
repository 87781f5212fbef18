"""What a step costs the database, counted by PostgreSQL itself."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import psycopg
import pytest
from django.conf import settings
from django.db import connections

from agents_app.core.model import FinishReason, ModelReply, ModelRequest
from agents_app.core.tools import Toolbox, tool
from agents_app.tools.builtin import BUILTIN_TOOLS
from costs.core.usage import Usage
from orchestrator.execution import engine_db, gateway
from orchestrator.execution.providers import TenantClient
from orchestrator.models import AgentRun
from orchestrator.services import agent_runs, workflows
from orchestrator.services.advance import advance
from tests.e2e.stories import echo, simulated, start
from tests.world import World

COUNT = """
SELECT COALESCE(sum(calls), 0)
  FROM pg_stat_statements s
  JOIN pg_roles r ON r.oid = s.userid
  JOIN pg_database d ON d.oid = s.dbid
 WHERE r.rolname = 'muster_app' AND d.datname = current_database() AND s.toplevel
"""
CALLERS = 5


def level_of(world: World, run_id: UUID) -> list[UUID]:
    advance(world.tenant.id, run_id)
    with world.scope():
        agents = AgentRun.objects.filter(run_id=run_id, status="queued")
        return list(agents.values_list("id", flat=True))


def round_trips() -> int:
    # The owner reads the statistics of all roles; its own statements do not count.
    with connections["owner"].cursor() as cursor:
        cursor.execute(COUNT)
        return int(cursor.fetchone()[0])


def two_turns(tool: str) -> dict:
    called = {"tool_calls": [{"name": tool, "arguments": {"expression": "6 * 7"}}]}
    agent = {"type": "react", "provider": "simulated", "model": "sim", "tools": [tool]}
    return {
        "agent": agent,
        "prompt": "How much is it?",
        "parameters": {"script": [called, {"text": "42"}]},
    }


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    @tool(is_repeatable=False)
    def pay(amount: int) -> str:
        """Pay an amount."""
        return f"paid {amount}"

    for module in (agent_runs, workflows):
        monkeypatch.setattr(module, "toolbox_of", lambda _: Toolbox((*BUILTIN_TOOLS, pay)))


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize(
    ("step", "most"),
    # Claim and finish; two for each turn, one for the tools of a turn, one for each result.
    # What must not be repeated is set down before and after.
    [
        (simulated("hello"), 4),
        (echo(value=1), 2),
        ({"agent": {"type": "tool", "tool": "pay", "arguments": {"amount": 1}}}, 4),
        (two_turns("calculator"), 8),
    ],
    ids=["prompt", "tool", "tool_once", "react"],
)
def test_round_trips_of_an_agent_run(acme: World, step: dict, most: int) -> None:
    first, second = level_of(acme, start(acme, {"a": step, "b": step}))
    agent_runs.execute(acme.tenant.id, first, worker="w")  # fills the caches of a fresh worker

    before = round_trips()
    agent_runs.execute(acme.tenant.id, second, worker="w")

    assert round_trips() - before == most


class Meeting:
    """A model client whose calls all wait for each other."""

    def __init__(self) -> None:
        self._barrier = threading.Barrier(CALLERS, timeout=20)

    def complete(self, request: ModelRequest) -> ModelReply:
        self._barrier.wait()
        return ModelReply(
            text="met",
            finish_reason=FinishReason.STOP,
            usage=Usage(input_tokens=1, output_tokens=1),
            provider=request.provider,
            model=request.model,
        )


@contextmanager
def one_connection() -> Iterator[None]:
    size = settings.MUSTER_ENGINE_POOL_SIZE
    engine_db.close_pools()
    settings.MUSTER_ENGINE_POOL_SIZE = 1
    try:
        yield
    finally:
        engine_db.close_pools()
        settings.MUSTER_ENGINE_POOL_SIZE = size


def test_no_connection_is_held_during_a_call(acme: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five calls are in flight at once, although the engine has a single connection."""
    meeting = Meeting()
    monkeypatch.setattr(gateway, "client_for_tenant", lambda *_, **__: TenantClient(client=meeting))
    level = level_of(acme, start(acme, {f"s{i}": simulated("hi") for i in range(CALLERS)}))
    held: list[int] = []

    def work(agent_run: UUID) -> None:
        agent_runs.execute(acme.tenant.id, agent_run, worker="w")
        held.append(connections["default"].connection is not None)

    with one_connection():
        threads = [threading.Thread(target=work, args=[agent_run]) for agent_run in level]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

    with acme.scope():
        statuses = AgentRun.objects.filter(id__in=level).values_list("status", flat=True)
        assert list(statuses) == ["completed"] * CALLERS
    assert held == [False] * CALLERS


def test_engine_connects_as_the_plain_role(acme: World) -> None:
    row = engine_db.one(
        "SELECT current_user AS name, application_name FROM pg_stat_activity "
        "WHERE pid = pg_backend_pid()"
    )

    assert row == {"name": "muster_app", "application_name": "muster-engine"}


def test_statement_outside_a_function_sees_no_tenant(acme: World) -> None:
    start(acme, {"a": echo(value=1)})

    with psycopg.connect(**connections["default"].get_connection_params()) as connection:
        assert connection.execute("SELECT count(*) FROM agent_run").fetchone() == (0,)
