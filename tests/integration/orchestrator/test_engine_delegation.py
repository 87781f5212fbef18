"""Agents that hand tasks to others, and go on with what comes of them."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.urls import reverse
from pydantic import JsonValue

from agents_app.core.model import ModelReply, ModelRequest
from agents_app.services.agents import create_agent
from costs.models import TenantPrice
from orchestrator.execution import engine_db, gateway, tool_rows
from orchestrator.execution.providers import TenantClient
from orchestrator.models import AgentRun, LlmCall, Run, RunEvent
from orchestrator.models import ToolCall as KeptCall
from orchestrator.services import agent_runs, control, retention
from orchestrator.services.advance import advance
from orchestrator.services.call_settings import change_call_settings
from orchestrator.services.sweep import sweep
from tenants.kernel.clock import now
from tests.e2e.stories import echo, start
from tests.engine_driver import drain, drain_all, open_limiter, queued, run_of, step_of
from tests.integration.orchestrator.test_engine_calls import published
from tests.integration.orchestrator.test_engine_late_answers import EXPIRE
from tests.scripted import Killed, reply_of
from tests.world import World

Turn = str | list[tuple[str, JsonValue]]
LEAD = "Lead."
ASKS: list[Turn] = [
    [
        ("delegate", {"agent": "digger", "task": "Dig for ${gold}."}),
        ("delegate", {"agent": "digger", "task": "Dig for silver."}),
    ],
    "All is dug.",
]


@dataclass
class Crowd:
    """Models that say what the first line of their prompt has them say, turn by turn."""

    scripts: dict[str, Sequence[Turn]] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    heard: dict[str, list[ModelRequest]] = field(default_factory=dict)
    dies_at: int | None = None
    passed: list[str] = field(default_factory=list)

    def complete(self, request: ModelRequest) -> ModelReply:
        who = request.messages[0].content.splitlines()[0]
        turn = sum(message.role == "assistant" for message in request.messages)
        self.asked[f"{who} {turn}"] += 1
        self.heard.setdefault(who, []).append(request)
        script = self.scripts.get(who, [f"Did: {who}"])
        says = script[turn]
        return reply_of(request, says, turn=turn)

    def results(self, who: str = LEAD) -> list[tuple[str, bool]]:
        """What this one was told last, and whether it was told as an error."""
        told = self.heard[who][-1].messages[-1].tool_results
        return [(each.content, each.is_error) for each in told]

    def crash_here(self, point: str) -> None:
        self.passed.append(point)
        if len(self.passed) == self.dies_at:
            raise Killed(point)


@pytest.fixture
def crowd(monkeypatch: pytest.MonkeyPatch, acme: World) -> Crowd:
    crowd = Crowd({LEAD: ASKS})
    open_limiter()
    monkeypatch.setattr(gateway, "client_for_tenant", lambda name, **_: TenantClient(client=crowd))
    for module in (agent_runs, gateway, tool_rows):
        monkeypatch.setattr(module, "crash_here", crowd.crash_here)
    with acme.scope():
        create_agent(slug="digger", type="prompt", provider="simulated", model="sim")
    return crowd


@pytest.fixture
def priced(acme: World) -> None:
    with acme.scope():
        TenantPrice.objects.create(
            provider="simulated",
            model="*",
            valid_from="2020-01-01",
            input_usd=Decimal(0),
            output_usd=Decimal(1),
        )


def lead(**fields: Any) -> dict[str, Any]:
    agent = {"type": "react", "provider": "simulated", "model": "sim", "prompt": LEAD}
    return {"agent": {**agent, "delegates": ["digger"], **fields}}


def begin(world: World, step: Mapping[str, Any] | None = None, **header: Any) -> UUID:
    run_id = start(world, {"a": step or lead()}, **header)
    advance(world.tenant.id, run_id)
    return run_id


def statuses(world: World, run_id: UUID) -> dict[str, str]:
    with world.scope():
        return dict(AgentRun.objects.filter(run_id=run_id).values_list("step", "status"))


def work(world: World, run_id: UUID) -> None:
    """One worker takes what is queued now, and lives."""
    for due in queued(world, run_id):
        agent_runs.execute(world.tenant.id, due.id, worker="w1")
    advance(world.tenant.id, run_id)


STRATEGIES = pytest.mark.parametrize("strategy", ["sequential", "levels", "adaptive"])


@STRATEGIES
def test_agent_goes_on_with_what_others_answered(acme: World, crowd: Crowd, strategy: str) -> None:
    run = drain(acme, begin(acme, strategy=strategy))

    assert (run.status, run.output) == ("completed", "All is dug.")
    assert [content for content, _ in crowd.results()] == [
        "<tool_output>\nDid: Dig for ${gold}.\n</tool_output>",
        "<tool_output>\nDid: Dig for silver.\n</tool_output>",
    ]
    assert statuses(acme, run.id) == dict.fromkeys(
        ["a", "a.1", "a.1.digger", "a.1.digger_2"], "completed"
    )
    assert {*crowd.asked.values()} == {1}


def test_agent_holds_no_worker_while_others_work_for_it(acme: World, crowd: Crowd) -> None:
    run_id = begin(acme)
    work(acme, run_id)

    waiting = step_of(acme, run_id, "a")

    assert (waiting.status, waiting.waiting_for) == ("waiting", "delegation")
    assert [each.step for each in queued(acme, run_id)] == ["a.1.digger", "a.1.digger_2"]
    sweep()
    assert step_of(acme, run_id, "a").status == "waiting"


def test_what_stands_for_delegated_steps_has_a_history(acme: World, crowd: Crowd) -> None:
    run = drain(acme, begin(acme))

    with acme.scope():
        standing = AgentRun.objects.get(run=run, step="a.1")
        told = RunEvent.objects.filter(agent_run_id=standing.id).order_by("id")
        assert list(told.values_list("type", flat=True)) == ["agent.running", "agent.completed"]


def test_failure_of_a_delegate_is_told_and_not_its_own(acme: World, crowd: Crowd) -> None:
    crowd.scripts["Dig for silver."] = [""]
    crowd.scripts["Dig for ${gold}."] = [[("nothing", {})]]
    run = drain(acme, begin(acme))

    assert (run.status, run.output) == ("completed", "All is dug.")
    (gold, is_error), _ = crowd.results()
    assert is_error
    assert "called a tool it was not given" in gold


def test_who_may_not_be_asked_is_an_observation(acme: World, crowd: Crowd) -> None:
    crowd.scripts[LEAD] = [[("delegate", {"agent": "boss", "task": "Go."})], "Alone then."]
    run = drain(acme, begin(acme))

    assert run.output == "Alone then."
    assert crowd.results()[0][1]
    assert [*statuses(acme, run.id)] == ["a"]


def test_agent_may_ask_its_like(acme: World, crowd: Crowd) -> None:
    with acme.scope():
        create_agent(
            slug="boss",
            type="react",
            provider="simulated",
            model="sim",
            settings={"delegates": ["boss"]},
        )
    crowd.scripts[LEAD] = [[("delegate", {"agent": "boss", "task": "Ask on."})], "Asked."]
    crowd.scripts["Ask on."] = [[("delegate", {"agent": "boss", "task": "Dig."})], "Passed on."]
    run = drain(acme, begin(acme, lead(delegates=["boss"])))

    assert run.output == "Asked."
    assert {*statuses(acme, run.id).values()} == {"completed"}
    assert step_of(acme, run.id, "a.1.boss.1.boss_2").output == "Did: Dig."


def test_steps_that_cannot_run_are_an_observation(
    acme: World, crowd: Crowd, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.MUSTER_MAX_ADDED_DEPTH = 0
    run = drain(acme, begin(acme))

    assert run.output == "All is dug."
    assert all(is_error and "deeper than 0" in told for told, is_error in crowd.results())


def test_too_many_steps_for_a_run_are_an_observation(
    acme: World, crowd: Crowd, settings: Any
) -> None:
    crowd.scripts[LEAD] = [*ASKS[:1], *ASKS]
    settings.MUSTER_MAX_ADDED_STEPS = 3
    run = drain(acme, begin(acme))

    assert run.output == "All is dug."
    assert all(is_error and "MUSTER_MAX_ADDED_STEPS" in told for told, is_error in crowd.results())
    assert sum(step.startswith("a.1.") for step in statuses(acme, run.id)) == 2
    assert sum(step.startswith("a.2.") for step in statuses(acme, run.id)) == 0


def test_agent_delegates_turn_after_turn(acme: World, crowd: Crowd) -> None:
    crowd.scripts[LEAD] = [*ASKS[:1], *ASKS]
    run = drain(acme, begin(acme))

    assert run.output == "All is dug."
    assert {"a.1.digger", "a.2.digger"} < {*statuses(acme, run.id)}


def test_wherever_a_worker_dies_nothing_is_asked_or_delegated_twice(
    acme: World, crowd: Crowd
) -> None:
    for point, run in survivors(acme, crowd, lambda: begin(acme)):
        assert (run.status, run.output) == ("completed", "All is dug."), point
        with acme.scope():
            answered = LlmCall.objects.filter(run=run, status="closed")
            assert answered.count() == 4, point
            assert AgentRun.objects.filter(run=run).count() == 4, point


def survivors(world: World, crowd: Crowd, begin: Callable[[], UUID]) -> Iterator[tuple[str, Run]]:
    """Runs of which each lost its worker at another point, with the point.

    Nothing is asked again but the one answer that died with its worker.
    """
    drain(world, begin())
    points = list(crowd.passed)
    assert "after_answer" in points
    for dies_at, point in enumerate(points, start=1):
        crowd.passed.clear()
        crowd.asked.clear()
        crowd.dies_at = dies_at
        run_id = begin()
        while len(crowd.passed) < dies_at:
            die_or_live(world, run_id)
        run = drain(world, run_id)
        again = sum(crowd.asked.values()) - len(crowd.asked)
        assert again == (1 if point == "after_answer" else 0), point
        yield point, run


def die_or_live(world: World, run_id: UUID) -> None:
    for due in queued(world, run_id):
        try:
            agent_runs.execute(world.tenant.id, due.id, worker="w1")
        except Killed:
            engine_db.one(EXPIRE, due.id, alias="system")
            sweep()
    advance(world.tenant.id, run_id)


def test_cancelled_run_ends_with_all_that_was_delegated(acme: World, crowd: Crowd) -> None:
    run_id = begin(acme)
    work(acme, run_id)

    with acme.scope():
        control.cancel_run(run_of(acme, run_id))
    advance(acme.tenant.id, run_id)

    assert run_of(acme, run_id).status == "cancelled"
    assert {*statuses(acme, run_id).values()} == {"cancelled"}


def test_cancelled_run_that_is_retried_delegates_nothing_twice(acme: World, crowd: Crowd) -> None:
    run_id = begin(acme)
    work(acme, run_id)
    with acme.scope():
        control.cancel_run(run_of(acme, run_id))
    advance(acme.tenant.id, run_id)

    with acme.scope():
        control.retry_run(run_of(acme, run_id))
    run = drain(acme, run_id)

    assert (run.status, run.output) == ("completed", "All is dug.")
    assert {*crowd.asked.values()} == {1}
    assert {*statuses(acme, run_id).values()} == {"completed"}


def cancelled_and_retried(world: World, run_id: UUID) -> None:
    with world.scope():
        control.cancel_run(run_of(world, run_id))
    advance(world.tenant.id, run_id)
    with world.scope():
        control.retry_run(run_of(world, run_id))
    advance(world.tenant.id, run_id)


def test_agent_hears_of_what_had_ended_before_the_run_was_cancelled(
    acme: World, crowd: Crowd
) -> None:
    run_id = begin(acme)
    work(acme, run_id)
    for due in queued(acme, run_id):
        agent_runs.execute(acme.tenant.id, due.id, worker="w1")

    cancelled_and_retried(acme, run_id)
    run = drain(acme, run_id)

    assert (run.status, run.output) == ("completed", "All is dug.")
    assert {*crowd.asked.values()} == {1}


def test_agent_that_is_taken_up_again_waits_for_what_it_had_delegated(
    acme: World, crowd: Crowd
) -> None:
    run_id = begin(acme)
    work(acme, run_id)

    cancelled_and_retried(acme, run_id)

    waiting = step_of(acme, run_id, "a")
    assert (waiting.status, waiting.waiting_for) == ("waiting", "delegation")
    assert [each.step for each in queued(acme, run_id)] == ["a.1.digger", "a.1.digger_2"]
    assert drain(acme, run_id).output == "All is dug."


def cancelled_for_an_hour(world: World, crowd: Crowd, keeps: str, lead_says: str = LEAD) -> UUID:
    """A run that was cancelled while others worked for its agent, whose texts were then treated."""
    crowd.scripts[lead_says] = ASKS
    run_id = begin(world, lead(prompt=lead_says))
    work(world, run_id)
    with world.scope():
        control.cancel_run(run_of(world, run_id))
    advance(world.tenant.id, run_id)
    with world.scope():
        Run.objects.filter(id=run_id).update(finished_at=now() - timedelta(hours=1))
        change_call_settings(keeps=keeps)
    retention.forget()
    return run_id


def retried(world: World, run_id: UUID) -> dict[str, Any]:
    """What the run's history tells of its retry."""
    with world.scope():
        control.retry_run(run_of(world, run_id))
        told: dict[str, Any] = RunEvent.objects.get(run_id=run_id, type="run.retried").data
    return told


@pytest.mark.parametrize(
    ("keeps", "lead_says"),
    [("none", LEAD), ("redacted", "Ask jane@example.org.")],
)
def test_agent_whose_answers_are_gone_begins_anew_and_says_so(
    acme: World, crowd: Crowd, keeps: str, lead_says: str
) -> None:
    run_id = cancelled_for_an_hour(acme, crowd, keeps, lead_says)

    assert retried(acme, run_id)["begin_anew"] == 1
    run = drain(acme, run_id)

    assert (run.status, run.output) == ("completed", "All is dug.")
    assert crowd.asked[f"{lead_says} 0"] == 2
    assert crowd.asked["Dig for silver. 0"] == 1
    ends = statuses(acme, run_id)
    assert (ends["a.1"], ends["a.10001"]) == ("cancelled", "completed")


def test_agent_with_nothing_struck_out_goes_on(acme: World, crowd: Crowd) -> None:
    run_id = cancelled_for_an_hour(acme, crowd, "redacted")

    assert "begin_anew" not in retried(acme, run_id)
    run = drain(acme, run_id)

    assert run.output == "All is dug."
    assert {*crowd.asked.values()} == {1}


def test_plans_of_what_was_delegated_go_and_their_graph_stays(acme: World, crowd: Crowd) -> None:
    run_id = cancelled_for_an_hour(acme, crowd, "none")

    added = step_of(acme, run_id, "a.1").added
    assert "gold" not in str(added)
    assert [step["name"] for step in added["plan"]["steps"]] == ["digger", "digger_2"]
    page = acme.browser().get(reverse("admin:orchestrator_run_change", args=[run_id]))
    assert page.status_code == 200


def test_failed_agent_that_is_retried_delegates_anew(acme: World, crowd: Crowd) -> None:
    crowd.scripts[LEAD] = [ASKS[0], "", "", ""]
    run_id = begin(acme)
    assert drain(acme, run_id).status == "failed"
    crowd.scripts[LEAD] = ASKS

    with acme.scope():
        control.retry_run(run_of(acme, run_id))
    run = drain(acme, run_id)

    assert (run.status, run.output) == ("completed", "All is dug.")
    assert sum(step.endswith(".digger") for step in statuses(acme, run_id)) == 2
    assert {*statuses(acme, run_id).values()} == {"completed"}


def test_attempts_that_delegated_have_not_failed(acme: World, crowd: Crowd) -> None:
    run = drain(acme, begin(acme, {**lead(), "retry": {"strategy": "immediate", "attempts": 1}}))

    with acme.scope():
        agent = AgentRun.objects.get(run=run, step="a")
        outcomes = list(agent.attempts.order_by("number").values_list("outcome", flat=True))
    assert run.status == "completed"
    assert outcomes == ["delegated", "completed"]
    assert (agent.spared, agent.attempt) == (1, 2)


def test_each_delegated_step_has_money_of_its_own(acme: World, crowd: Crowd, priced: None) -> None:
    run = drain(acme, begin(acme, lead(delegate_cost_usd="0.000000001")))

    assert run.status == "completed"
    assert [is_error for _, is_error in crowd.results()] == [True, True]
    assert all("0.000000001" in told for told, _ in crowd.results())


def test_items_of_a_map_delegate_each_for_itself(acme: World, crowd: Crowd) -> None:
    step = {**lead(prompt=f"{LEAD}\n${{item}}"), "map": {"over": "${input.list}"}}
    run = drain(acme, begin(acme, step, given={"list": [1, 2]}))

    assert run.output == ["All is dug.", "All is dug."]
    assert {"a[0].1.digger", "a[1].1.digger"} < {*statuses(acme, run.id)}


def test_agent_runs_a_workflow(acme: World, crowd: Crowd) -> None:
    takes = {"type": "object", "required": ["x"], "properties": {"x": {}}}
    published(acme, {"say": echo(value="${input.x}")}, inputs=takes)
    crowd.scripts[LEAD] = [
        [("run_workflow", {"workflow": "check", "input": {"x": "${1}"}})],
        [("run_workflow", {"workflow": "check", "input": {}})],
        "Checked.",
    ]
    run = drain_all(acme, begin(acme, lead(delegates=None, workflows=["check"])))

    assert (run.status, run.output) == ("completed", "Checked.")
    told = [message for message in crowd.heard[LEAD][-1].messages if message.tool_results]
    assert told[0].tool_results[0].content == "<tool_output>\n${1}\n</tool_output>"
    assert "x is required" in told[1].tool_results[0].content


def test_tool_calls_tell_of_what_was_delegated(acme: World, crowd: Crowd) -> None:
    run = drain(acme, begin(acme))

    with acme.scope():
        kept = KeptCall.objects.filter(run=run).order_by("call")
        assert list(kept.values_list("tool", "status", "output")) == [
            ("delegate", "finished", "Did: Dig for ${gold}."),
            ("delegate", "finished", "Did: Dig for silver."),
        ]
