"""Tools that ask a model for their agent: by the same door, and paid once."""

import threading
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from pydantic import JsonValue

from agents_app.core.completing import Completion
from agents_app.core.model import ModelReply, ModelRequest, ToolCall
from costs.models import CostEntry, TenantPrice
from orchestrator.core.spec import ModelChoice
from orchestrator.core.state import WaitingReason
from orchestrator.execution import engine_db, gateway, tool_rows
from orchestrator.execution.claims import claim
from orchestrator.execution.completions import Completions
from orchestrator.execution.errors import MustWaitError
from orchestrator.execution.leases import Lease
from orchestrator.execution.providers import TenantClient
from orchestrator.models import LlmCall
from orchestrator.services import agent_runs
from orchestrator.services.advance import advance
from orchestrator.services.sweep import sweep
from tenants.kernel.models import uuid7
from tests.e2e.stories import start
from tests.engine_driver import drain, open_limiter, queued, step_of
from tests.integration.orchestrator.test_engine_late_answers import EXPIRE
from tests.scripted import Killed, reply
from tests.world import World

ASKED: dict[str, JsonValue] = {"prompt": "Write of tides.", "system": "Be brief."}


@dataclass
class Scene:
    """A model that leads an agent, and answers what the agent's tool asks."""

    calls: list[dict[str, JsonValue]] = field(default_factory=lambda: [ASKED])
    heard: list[ModelRequest] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    told: list[str] = field(default_factory=list)
    dies_at: int | None = None
    passed: list[str] = field(default_factory=list)
    is_dead: bool = False
    text_seconds: float = 0.0
    at_once: int = 0
    most_at_once: int = 0
    guard: threading.Lock = field(default_factory=threading.Lock)

    def complete(self, request: ModelRequest) -> ModelReply:
        self.heard.append(request)
        turn = sum(message.role == "assistant" for message in request.messages)
        if not request.tools:
            with self.guard:
                self.asked["text"] += 1
                self.at_once += 1
                self.most_at_once = max(self.most_at_once, self.at_once)
            if self.text_seconds:
                threading.Event().wait(self.text_seconds)
            with self.guard:
                self.at_once -= 1
            return reply(request, "The sea comes and goes.")
        self.asked[f"turn {turn}"] += 1
        if turn:
            self.told = [each.content for each in request.messages[-1].tool_results]
            return reply(request, "All is written.")
        calls = tuple(
            ToolCall(id=f"c{number}", name="text_completion", arguments=arguments)
            for number, arguments in enumerate(self.calls)
        )
        return reply(request, "", *calls)

    def crash_here(self, point: str) -> None:
        self.passed.append(point)
        # With a thread of a tool all others of the process are gone.
        self.is_dead = self.is_dead or len(self.passed) == self.dies_at
        if self.is_dead:
            raise Killed(point)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch, acme: World) -> Scene:
    scene = Scene()
    open_limiter()
    monkeypatch.setattr(gateway, "client_for_tenant", lambda name, **_: TenantClient(client=scene))
    for module in (agent_runs, gateway, tool_rows):
        monkeypatch.setattr(module, "crash_here", scene.crash_here)
    with acme.scope():
        TenantPrice.objects.create(
            provider="simulated",
            model="*",
            valid_from="2020-01-01",
            input_usd=Decimal(0),
            output_usd=Decimal(1),
        )
    return scene


def begin(world: World, **step: Any) -> UUID:
    agent = {"type": "react", "provider": "simulated", "model": "sim", "tools": ["text_completion"]}
    run_id = start(world, {"a": {"agent": agent, "prompt": "Write.", **step}})
    advance(world.tenant.id, run_id)
    return run_id


def test_agent_reads_what_its_tool_was_answered(acme: World, scene: Scene) -> None:
    run = drain(acme, begin(acme))

    assert (run.status, run.output) == ("completed", "All is written.")
    assert "The sea comes and goes." in scene.told[0]
    asked = scene.heard[1]
    assert (asked.system, asked.messages[0].content) == ("Be brief.", "Write of tides.")
    assert asked.max_output_tokens == 1_000


def test_answer_of_a_tool_is_metered_to_run_and_step(acme: World, scene: Scene) -> None:
    run = drain(acme, begin(acme))

    step = step_of(acme, run.id, "a")
    assert (step.llm_calls, step.output_tokens, step.cost_nano) == (3, 15, 15_000)
    assert run.cost_nano == 15_000
    with acme.scope():
        entries = CostEntry.objects.filter(run_id=run.id, step="a", kind="call")
        assert sum(entry.amount_nano for entry in entries) == 15_000
        (of_tool,) = LlmCall.objects.filter(run=run, tool_call_id__isnull=False)
        assert (of_tool.turn, of_tool.status) == (1, "closed")


def test_wherever_its_worker_dies_no_answer_is_paid_twice(acme: World, scene: Scene) -> None:
    drain(acme, begin(acme))
    points = list(scene.passed)

    for dies_at, point in enumerate(points, start=1):
        scene.asked.clear()
        scene.passed, scene.dies_at = [], dies_at
        run_id = begin(acme)
        while due := queued(acme, run_id):
            try:
                agent_runs.execute(acme.tenant.id, due[0].id, worker="w1")
            except Killed:
                scene.is_dead = False
                engine_db.one(EXPIRE, due[0].id, alias="system")
                sweep()
            advance(acme.tenant.id, run_id)
        run = drain(acme, run_id)
        assert (run.status, run.output) == ("completed", "All is written."), point
        assert sum(scene.asked.values()) <= 3 + (point == "after_answer"), point
        with acme.scope():
            closed = LlmCall.objects.filter(run=run, status="closed")
            assert closed.count() == 3, point


def test_several_at_once_have_answers_of_their_own(acme: World, scene: Scene) -> None:
    scene.calls = [{"prompt": "a"}, {"prompt": "b"}]
    run = drain(acme, begin(acme))

    assert (run.status, scene.asked["text"]) == ("completed", 2)
    assert step_of(acme, run.id, "a").llm_calls == 4


def test_only_models_of_the_step_are_asked(acme: World, scene: Scene) -> None:
    scene.calls = [{"prompt": "a", "model": "small"}, {"prompt": "b", "model": "huge"}]
    drain(acme, begin(acme, fallback=[{"provider": "simulated", "model": "small"}]))

    assert scene.asked["text"] == 1
    assert "small" in {each.model for each in scene.heard}
    assert "names no model 'huge'" in scene.told[1]


def test_cap_of_the_step_holds_for_its_tools(acme: World, scene: Scene) -> None:
    scene.calls = [{"prompt": "a", "max_tokens": 16_000}]
    run = drain(acme, begin(acme, max_cost_usd="0.01"))

    assert (run.status, scene.asked["text"]) == ("completed", 0)
    assert "max_cost_usd" in scene.told[0] or "may cost" in scene.told[0]


def test_tools_that_ask_at_once_share_the_cap_of_their_step(acme: World, scene: Scene) -> None:
    # A cent at most for each, of two and a half.
    scene.calls = [{"prompt": letter, "max_tokens": 10_000} for letter in "abcdefgh"]
    scene.text_seconds = 0.3
    run = drain(acme, begin(acme, max_cost_usd="0.025", parameters={"max_output_tokens": 100}))

    assert run.status == "completed"
    assert 1 <= scene.most_at_once <= 2


def test_each_question_of_a_tool_has_an_answer_of_its_own(acme: World, scene: Scene) -> None:
    run_id = begin(acme)
    (due,) = queued(acme, run_id)
    where, lease_length = (acme.tenant.id, due.id), timedelta(minutes=1)
    claim(*where, worker="w1", lease=lease_length)
    engine_db.one(EXPIRE, due.id, alias="system")
    sweep()
    second = claim(*where, worker="w2", lease=lease_length)
    assert second is not None
    lease = Lease(due.id, second.attempt)
    models = Completions(
        lambda call_id: gateway.GuardedClient(second, lease, role="", tool_call=call_id),
        lease,
        models={"": ModelChoice(provider="simulated", model="sim")},
    )
    call_id = uuid7()

    for prompt in ("a", "b"):
        models.complete(Completion(prompt=prompt), call_id=call_id)

    assert [each.messages[0].content for each in scene.heard] == ["a", "b"]


def test_step_without_a_model_is_told_so(acme: World, scene: Scene) -> None:
    agent = {"type": "tool", "tool": "text_completion", "arguments": {"prompt": "a"}}
    run_id = start(acme, {"a": {"agent": agent}})
    advance(acme.tenant.id, run_id)
    run = drain(acme, run_id)

    assert run.status == "failed"
    assert "only agents with a model of their own" in step_of(acme, run_id, "a").error["message"]


def test_step_waits_where_its_tool_has_to(
    acme: World, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(client: gateway.GuardedClient, facts: object) -> bool:
        if client._tool_call is not None:
            raise MustWaitError(WaitingReason.RATE_LIMITED, "a limit", 60.0)
        return True

    with monkeypatch.context() as crowded:
        crowded.setattr(gateway.GuardedClient, "_is_admitted", refuse)
        run_id = begin(acme)
        drain(acme, run_id)
    step = step_of(acme, run_id, "a")
    assert (step.status, step.waiting_for, step.waits_on) == ("waiting", "rate_limited", "a limit")

    with acme.scope():
        type(step).objects.filter(id=step.id).update(due_at="2020-01-01T00:00:00Z")
    sweep()
    run = drain(acme, run_id)

    assert (run.status, dict(scene.asked)) == ("completed", {"turn 0": 1, "text": 1, "turn 1": 1})
