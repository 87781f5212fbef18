"""Agents that work in turns keep what they have, whenever their worker dies."""

import asyncio
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest
from django.db import connections
from django.urls import reverse
from pydantic import JsonValue

from agents_app.core.journal import ToolEnd
from agents_app.core.model import ModelReply, ModelRequest, ToolCall
from agents_app.core.tools import Toolbox, ToolContext, tool
from agents_app.tools.calculator import calculator
from orchestrator.execution import engine_db, gateway, tool_rows
from orchestrator.execution.claims import Claim
from orchestrator.execution.errors import LeaseLostError, RunStoppingError
from orchestrator.execution.leases import Lease, keeper_of
from orchestrator.execution.providers import TenantClient
from orchestrator.execution.tool_rows import ToolRows
from orchestrator.models import LlmCall, Run, RunEvent
from orchestrator.models import ToolCall as KeptCall
from orchestrator.services import agent_runs, control, workflows
from orchestrator.services.advance import advance
from orchestrator.services.sweep import sweep
from tests.e2e.stories import start
from tests.engine_driver import drain, queued, run_of, step_of
from tests.integration.orchestrator.test_engine_late_answers import EXPIRE, take
from tests.scripted import Killed, reply_of
from tests.world import World

Turn = str | list[tuple[str, JsonValue]]
FIVE_TURNS: list[Turn] = [
    [("note", {"text": "a"}), ("note", {"text": "b"})],
    [("calculator", {"expression": "6*7"})],
    [("pay", {"amount": 1})],
    [("note", {"text": "c"})],
    "All is noted.",
]
TURNS = range(1, len(FIVE_TURNS) + 1)


@dataclass
class Scene:
    """A model with a script, tools that count, and a worker that dies where it is told to."""

    script: list[Turn] = field(default_factory=lambda: FIVE_TURNS)
    dies_at: int | None = None
    passed: list[str] = field(default_factory=list)
    asked: Counter[int] = field(default_factory=Counter)
    noted: Counter[str] = field(default_factory=Counter)
    paid: int = 0
    signed: list[ToolContext] = field(default_factory=list)

    def complete(self, request: ModelRequest) -> ModelReply:
        turn = 1 + sum(message.role == "assistant" for message in request.messages)
        self.asked[turn] += 1
        says = self.script[turn - 1]
        return reply_of(request, says, turn=turn)

    def begin_again(self, *, dies_at: int) -> None:
        self.dies_at, self.paid = dies_at, 0
        for counted in (self.passed, self.asked, self.noted):
            counted.clear()

    def crash_here(self, point: str) -> None:
        self.passed.append(point)
        if len(self.passed) == self.dies_at:
            raise Killed(point)

    @property
    def tools(self) -> Toolbox:
        @tool()
        def note(text: str) -> str:
            """Note a text."""
            self.noted[text] += 1
            return f"noted {text}"

        @tool(is_repeatable=False)
        def pay(amount: int) -> str:
            """Pay an amount."""
            self.paid += amount
            return "paid"

        @tool()
        def sign(context: ToolContext) -> str:
            """Sign under the name of the call."""
            self.signed.append(context)
            return "signed"

        return Toolbox((calculator, note, pay, sign))


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    scene = Scene()
    monkeypatch.setattr(gateway, "client_for_tenant", lambda name, **_: TenantClient(client=scene))
    for module in (agent_runs, gateway, tool_rows):
        monkeypatch.setattr(module, "crash_here", scene.crash_here)
    for module in (agent_runs, workflows):
        monkeypatch.setattr(module, "toolbox_of", lambda _: scene.tools)
    return scene


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tools that do what no tool should, called by the simulated provider's own scripts."""

    @tool()
    def flood() -> str:
        """Give far too much."""
        return "x" * 10_000_000

    tools = Toolbox((*Scene().tools, flood))
    for module in (agent_runs, workflows):
        monkeypatch.setattr(module, "toolbox_of", lambda _: tools)


def begin(world: World, **agent: Any) -> UUID:
    described = {"type": "react", "provider": "simulated", "model": "sim", "prompt": "Go on."}
    tools = [each.name for each in workflows.toolbox_of(world.tenant.id)]
    run_id = start(world, {"a": {"agent": {**described, "tools": tools, **agent}}})
    advance(world.tenant.id, run_id)
    return run_id


def die(world: World, run_id: UUID) -> None:
    """Work on the step until the worker is gone, and let its lease run out."""
    (due,) = queued(world, run_id)
    with pytest.raises(Killed):
        agent_runs.execute(world.tenant.id, due.id, worker="w1")
    engine_db.one(EXPIRE, due.id, alias="system")
    sweep()
    advance(world.tenant.id, run_id)


def answered_turns(world: World, run_id: UUID) -> list[int]:
    with world.scope():
        closed = LlmCall.objects.filter(run_id=run_id, status="closed").order_by("turn")
        return list(closed.values_list("turn", flat=True))


def kept(world: World, run_id: UUID, **which: Any) -> list[tuple[int, str, str]]:
    with world.scope():
        calls = KeptCall.objects.filter(run_id=run_id, **which).order_by("turn", "call", "attempt")
        return list(calls.values_list("turn", "tool", "status"))


def test_agent_calls_its_tools_in_turns(acme: World, scene: Scene) -> None:
    run = drain(acme, begin(acme))

    assert (run.status, run.output) == ("completed", "All is noted.")
    assert scene.noted == {"a": 1, "b": 1, "c": 1}
    assert kept(acme, run.id) == [
        (1, "note", "finished"),
        (1, "note", "finished"),
        (2, "calculator", "finished"),
        (3, "pay", "finished"),
        (4, "note", "finished"),
    ]
    with acme.scope():
        assert RunEvent.objects.filter(run=run, type="tool_call.finished").count() == 5


def test_wherever_its_worker_dies_nothing_finished_is_done_again(acme: World, scene: Scene) -> None:
    drain(acme, begin(acme))
    points = list(scene.passed)
    assert {"after_claim", "before_send", "after_answer", "before_tools", "after_tool"} < {*points}

    for dies_at, point in enumerate(points, start=1):
        scene.begin_again(dies_at=dies_at)
        run_id = begin(acme)
        die(acme, run_id)
        run = drain(acme, run_id)
        check(acme, run, scene, point=point)


def check(world: World, run: Run, scene: Scene, *, point: str) -> None:
    assert (run.status, run.output) == ("completed", "All is noted."), point
    assert answered_turns(world, run.id) == [*TURNS]
    # Only what was under way as the worker died, and had not been kept, is done once more.
    asked_again = 1 if point == "after_answer" else 0
    assert sum(scene.asked.values()) - len(TURNS) == asked_again, point
    finished = kept(world, run.id, status="finished")
    assert len(finished) == len({*finished}) + 1, point  # two notes in the first turn
    # Of two calls at the same time, both may have been under way.
    again = sum(scene.noted.values()) - 3
    assert 0 <= again <= (2 if point == "after_tool" else 0), point
    assert scene.paid <= 1
    assert step_of(world, run.id, "a").llm_calls >= len(TURNS)


def test_page_of_a_run_shows_what_its_tools_were_asked(acme: World, scene: Scene) -> None:
    run = drain(acme, begin(acme))
    address = reverse("admin:orchestrator_run_change", args=[run.id])

    page = acme.browser().get(address, {"step": "a"}).content.decode()

    assert "Tool calls" in page
    assert "noted c" in page


def test_page_of_a_run_leaves_no_tool_at_work_that_was_cut_off(acme: World, scene: Scene) -> None:
    scene.dies_at = 4  # claimed, sent, answered, and tools begun
    run_id = begin(acme)
    die(acme, run_id)
    address = reverse("admin:orchestrator_run_change", args=[run_id])

    page = acme.browser().get(address, {"step": "a"}).content.decode()

    assert step_of(acme, run_id, "a").status == "queued"
    assert page.split("Tool calls")[1].count("in doubt") == 2


def test_tool_that_must_not_be_repeated_is_told_to_be_in_doubt(acme: World, scene: Scene) -> None:
    scene.script = [[("pay", {"amount": 1})], "Asked somebody."]
    # Claimed, sent, answered, tools begun, and the payment made.
    scene.dies_at = 5
    run_id = begin(acme)
    die(acme, run_id)

    run = drain(acme, run_id)

    assert (run.status, scene.paid) == ("completed", 1)
    assert kept(acme, run_id) == [(1, "pay", "in_doubt")]


def test_call_has_one_name_for_all_attempts_at_it(acme: World, scene: Scene) -> None:
    scene.script = [[("sign", {})], [("sign", {})], "Signed."]
    scene.dies_at = 5  # claimed, sent, answered, tools begun, and signed
    run_id = begin(acme)
    die(acme, run_id)
    drain(acme, run_id)

    first, again, second = scene.signed
    assert first.call_id == again.call_id
    assert (first.run_id, first.step) == (run_id, "a")
    assert second.call_id != first.call_id


def test_call_of_an_agent_that_began_anew_has_another_name(acme: World, scene: Scene) -> None:
    scene.script = [[("sign", {})], " ", " ", " "]
    run_id = begin(acme)
    drain(acme, run_id)
    with acme.scope():
        control.retry_run(run_of(acme, run_id))
    drain(acme, run_id)

    assert len({each.call_id for each in scene.signed}) == len(scene.signed) == 2


def test_failed_agent_that_is_retried_begins_anew(acme: World, scene: Scene) -> None:
    scene.script = [[("note", {"text": "a"})], " ", " ", " "]
    run_id = begin(acme)
    assert drain(acme, run_id).status == "failed"
    scene.script = [[("note", {"text": "b"})], "Done."]

    with acme.scope():
        control.retry_run(run_of(acme, run_id))
    run = drain(acme, run_id)

    assert (run.status, run.output) == ("completed", "Done.")
    assert scene.noted == {"a": 1, "b": 1}


def test_limits_of_an_agent_are_the_steps_error(acme: World, scene: Scene) -> None:
    scene.script = [[("note", {"text": str(n)})] for n in range(5)]

    run = drain(acme, begin(acme, max_turns=2))

    error = step_of(acme, run.id, "a").error
    assert run.status == "failed"
    assert error["code"] == "turn_limit"


HOSTILE: list[tuple[list[dict[str, Any]], str]] = [
    ([{"tool_calls": [{"name": "note", "arguments": {"text": "again"}}]}], "repeated_calls"),
    ([{"tool_calls": [{"name": "note", "arguments": {"text": "x"}}] * 60}], "repeated_calls"),
    ([{"tool_calls": [{"name": "rm -rf /", "arguments": "{"}]}], "tool_failures"),
    ([{"tool_calls": [{"name": "flood", "arguments": {}}]}], "repeated_calls"),
    ([{"finish_reason": "tool_calls"}], "provider_error"),
    ([{"finish_reason": "paused", "text": "wait"}], "turn_limit"),
    ([{"text": ""}], "output_invalid"),
]


@pytest.mark.parametrize(("script", "code"), HOSTILE)
def test_model_that_never_answers_is_given_up(
    acme: World, plain: None, script: list[dict[str, Any]], code: str
) -> None:
    run = drain(acme, begin(acme, parameters={"script": script}, max_turns=8))

    assert run.status == "failed"
    assert step_of(acme, run.id, "a").error["code"] == code


def execute_elsewhere(tenant_id: UUID, agent_run_id: UUID) -> None:
    try:
        agent_runs.execute(tenant_id, agent_run_id, worker="elsewhere")
    finally:
        connections.close_all()


@pytest.mark.parametrize("kind", ["react", "tool"])
def test_cancelling_a_run_ends_its_tools_at_work(
    acme: World, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    began, ended = threading.Event(), threading.Event()

    @tool()
    async def endless() -> str:
        """Never end."""
        began.set()
        try:
            await asyncio.sleep(600)
        finally:
            ended.set()
        return "done"

    for module in (agent_runs, workflows):
        monkeypatch.setattr(module, "toolbox_of", lambda _: Toolbox((endless,)))
    called: dict[str, Any] = {"tool_calls": [{"name": "endless", "arguments": {}}]}
    if kind == "react":
        run_id = begin(acme, parameters={"script": [called]})
    else:
        run_id = start(acme, {"a": {"agent": {"type": "tool", "tool": "endless"}}})
        advance(acme.tenant.id, run_id)
    (due,) = queued(acme, run_id)
    work = threading.Thread(target=execute_elsewhere, args=(acme.tenant.id, due.id))
    work.start()
    assert began.wait(20)
    with acme.scope():
        control.cancel_run(run_of(acme, run_id))
    keeper_of("elsewhere").renew()
    work.join(20)

    assert ended.wait(5)
    assert step_of(acme, run_id, "a").status == "cancelled"


class Taken:
    """A claimed agent run and its journal."""

    def __init__(self, world: World, run_id: UUID) -> None:
        self.claim: Claim = take(world, step_of(world, run_id, "a").id)
        self.lease = Lease(self.claim.agent_run_id, self.claim.attempt)
        self.journal = ToolRows(self.claim, self.lease)

    def begin(self, *, repeatable: bool = True) -> dict[str, ToolEnd]:
        call = ToolCall(id="c1", name="note", arguments={"text": "a"})
        return dict(self.journal.begin(1, [call], repeatable={"note"} if repeatable else set()))


def taken_over(world: World) -> tuple[Taken, Taken]:
    """Who was given up with a tool at work, and who has taken its agent run over."""
    run_id = begin(world)
    late = Taken(world, run_id)
    assert late.begin() == {}
    engine_db.one(EXPIRE, late.claim.agent_run_id, alias="system")
    sweep()
    return late, Taken(world, run_id)


def test_result_that_comes_before_its_call_is_made_again_counts(acme: World, scene: Scene) -> None:
    late, heir = taken_over(acme)

    late.journal.end(1, "c1", ToolEnd(output={"b": 1, "a": None}))

    assert heir.begin() == {"c1": ToolEnd(output={"b": 1, "a": None})}


def test_result_that_comes_after_its_call_was_made_again_does_not_count(
    acme: World, scene: Scene
) -> None:
    late, heir = taken_over(acme)
    assert heir.begin() == {}

    with pytest.raises(LeaseLostError):
        late.journal.end(1, "c1", ToolEnd(output="late"))

    heir.journal.end(1, "c1", ToolEnd(error="no"))
    assert kept(acme, heir.claim.run_id) == [(1, "note", "in_doubt"), (1, "note", "failed")]


def test_attempt_that_was_given_up_begins_no_tool(acme: World, scene: Scene) -> None:
    late, _ = taken_over(acme)

    with pytest.raises(LeaseLostError):
        late.begin()


def test_no_tool_begins_for_a_run_that_is_to_end(acme: World, scene: Scene) -> None:
    taken = Taken(acme, begin(acme))
    with acme.scope():
        control.cancel_run(run_of(acme, taken.claim.run_id))

    with pytest.raises(RunStoppingError):
        taken.begin()


def test_calls_of_one_tenant_are_not_anothers(acme: World, globex: World, scene: Scene) -> None:
    run = drain(acme, begin(acme))

    assert kept(globex, run.id) == []
