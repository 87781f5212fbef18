"""Tool steps whose tool must not be called twice, whenever their worker dies."""

from typing import Any
from uuid import UUID

import pytest

from agents_app.core.errors import ToolFailedError
from agents_app.core.tools import Toolbox, tool
from orchestrator.execution import tool_rows
from orchestrator.models import Run, RunEvent
from orchestrator.services import agent_runs, control, workflows
from orchestrator.services.advance import advance
from tests.e2e.stories import start
from tests.engine_driver import drain, run_of, step_of
from tests.integration.orchestrator.test_engine_react import die, kept
from tests.scripted import Killed
from tests.world import World


class Scene:
    """Tools that count, and a worker that dies at a named place."""

    def __init__(self) -> None:
        self.paid = 0
        self.noted = 0
        self.dies_at = ""

    def crash_here(self, point: str) -> None:
        if point == self.dies_at:
            self.dies_at = ""
            raise Killed(point)

    @property
    def tools(self) -> Toolbox:
        @tool(is_repeatable=False)
        def pay(amount: int) -> str:
            """Pay an amount."""
            if amount < 0:
                raise ToolFailedError("pay", "nobody pays less than nothing")
            self.paid += amount
            return f"paid {amount}"

        @tool()
        def note(text: str) -> str:
            """Note a text."""
            self.noted += 1
            return f"noted {text}"

        return Toolbox((pay, note))


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    scene = Scene()
    for module in (agent_runs, tool_rows):
        monkeypatch.setattr(module, "crash_here", scene.crash_here)
    for module in (agent_runs, workflows):
        monkeypatch.setattr(module, "toolbox_of", lambda _: scene.tools)
    return scene


def begin(world: World, amount: int = 1, **step: Any) -> UUID:
    agent = {"type": "tool", "tool": "pay", "arguments": {"amount": amount}}
    run_id = start(world, {"a": {"agent": agent, **step}})
    advance(world.tenant.id, run_id)
    return run_id


def after_a_death(world: World, scene: Scene, *, at: str, **step: Any) -> Run:
    scene.dies_at = at
    run_id = begin(world, **step)
    die(world, run_id)
    return drain(world, run_id)


def test_call_is_set_down_with_what_it_gave(acme: World, scene: Scene) -> None:
    run = drain(acme, begin(acme))

    assert (run.status, run.output, scene.paid) == ("completed", "paid 1", 1)
    assert kept(acme, run.id) == [(1, "pay", "finished")]
    with acme.scope():
        assert RunEvent.objects.filter(run=run, type="tool_call.finished").count() == 1


def test_nothing_is_set_down_of_what_may_be_repeated(acme: World, scene: Scene) -> None:
    note = {"agent": {"type": "tool", "tool": "note", "arguments": {"text": "x"}}}
    run_id = start(acme, {"a": note})
    advance(acme.tenant.id, run_id)
    run = drain(acme, run_id)

    assert (run.status, kept(acme, run_id)) == ("completed", [])


@pytest.mark.parametrize(("at", "paid"), [("before_tools", 0), ("after_tool", 1)])
def test_call_that_was_cut_off_is_in_doubt(acme: World, scene: Scene, at: str, paid: int) -> None:
    run = after_a_death(acme, scene, at=at)

    step = step_of(acme, run.id, "a")
    assert (run.status, step.status, step.error["code"]) == ("failed", "failed", "tool_in_doubt")
    assert scene.paid == paid
    assert kept(acme, run.id) == [(1, "pay", "in_doubt")]


def test_call_in_doubt_is_made_again_where_its_step_says_so(acme: World, scene: Scene) -> None:
    run = after_a_death(acme, scene, at="after_tool", retry={"in_doubt": "repeat"})

    assert (run.status, scene.paid) == ("completed", 2)
    assert kept(acme, run.id) == [(1, "pay", "in_doubt"), (1, "pay", "finished")]


@pytest.mark.parametrize("at", ["after_claim", "before_publish"])
def test_death_before_or_behind_the_call_costs_nothing(acme: World, scene: Scene, at: str) -> None:
    scene.dies_at = at
    run_id = begin(acme)
    if at == "before_publish":
        with pytest.raises(Killed):
            drain(acme, run_id)
        advance(acme.tenant.id, run_id)
    else:
        die(acme, run_id)
    run = drain(acme, run_id)

    assert (run.status, run.output, scene.paid) == ("completed", "paid 1", 1)


def test_end_that_was_kept_is_that_of_the_next_attempt(
    acme: World, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as dying:
        dying.setattr(agent_runs, "_finish", lambda *_: scene.crash_here("before_finish"))
        scene.dies_at = "before_finish"
        run_id = begin(acme)
        die(acme, run_id)
    run = drain(acme, run_id)

    assert (run.status, run.output, scene.paid) == ("completed", "paid 1", 1)


def test_failure_is_the_steps_own(acme: World, scene: Scene) -> None:
    run = drain(acme, begin(acme, amount=-1))

    error = step_of(acme, run.id, "a").error
    assert (run.status, error["code"]) == ("failed", "tool_failed")
    assert kept(acme, run.id) == [(1, "pay", "failed")]


def test_person_who_retries_the_run_has_it_called_once_more(acme: World, scene: Scene) -> None:
    run = after_a_death(acme, scene, at="before_tools")

    with acme.scope():
        control.retry_run(run_of(acme, run.id))
    run = drain(acme, run.id)

    assert (run.status, scene.paid) == ("completed", 1)
