"""Steps that agents add to their run, against the real database."""

from typing import Any
from uuid import UUID

import pytest

from agents_app.core.agent import AddedSteps, AgentConfig, Outcome
from agents_app.runtime import run_agent
from orchestrator.core.state import AgentRunStatus
from orchestrator.execution.finishes import Finish, finish
from orchestrator.execution.leases import Lease
from orchestrator.models import AgentRun, Attempt, Run, RunEvent
from orchestrator.services import agent_runs
from orchestrator.services.advance import advance
from orchestrator.services.control import cancel_run, pause_run, resume_run, retry_run
from orchestrator.services.replay import replay_run
from orchestrator.services.sweep import sweep
from tests.e2e.stories import echo, start
from tests.engine_driver import drain, drain_all, queued, run_of, step_of
from tests.integration.orchestrator.test_engine import EXPIRED, take
from tests.integration.orchestrator.test_engine_calls import published
from tests.integration.orchestrator.test_engine_control import act
from tests.integration.orchestrator.test_engine_strategies import broken
from tests.world import World

STRATEGIES = pytest.mark.parametrize("strategy", ["sequential", "levels", "adaptive"])
WHERE = {"type": "object", "required": ["add", "list"], "properties": {"add": {}, "list": {}}}


def adding(**fields: Any) -> dict[str, Any]:
    """Adds the steps that the run is given."""
    return {**echo(value="${input.add}"), "adds_steps": True, **fields}


def go(
    world: World, added: dict[str, Any], output: Any = None, *, plan: Any = None, **header: Any
) -> UUID:
    """A run whose step `plan` adds steps, and whose step `end` comes after it."""
    given = {"add": {"steps": added, **({"output": output} if output is not None else {})}}
    steps = {"plan": plan or adding(), "end": echo(value="${steps.plan.output}", needs=["plan"])}
    return start(world, steps, given=given, **header)


@STRATEGIES
def test_added_steps_run_before_what_needs_their_step(acme: World, strategy: str) -> None:
    added = {"one": echo(value=1), "two": echo(value="${steps.one.output}", needs=["one"])}
    run_id = go(acme, added, {"found": "${steps.two.output}"}, strategy=strategy)

    run = drain(acme, run_id)

    assert (run.status, run.status_reason) == ("completed", "2 of 2 steps completed")
    assert run.output == {"found": 1}
    assert step_of(acme, run_id, "plan.two").output == 1
    assert step_of(acme, run_id, "plan").output == {"found": 1}


def test_step_stands_for_added_ones_from_the_moment_its_agent_has_ended(acme: World) -> None:
    run_id = go(acme, {"one": echo(value=1)})

    drain(acme, run_id)

    with acme.scope():
        of_plan = Attempt.objects.filter(agent_run__run=run_id, agent_run__step="plan")
        agent, whole = of_plan.order_by("number")
    assert (agent.outcome, whole.outcome) == ("added_steps", "completed")
    assert agent.finished_at == whole.started_at


def test_without_an_output_the_last_of_them_give_it(acme: World) -> None:
    added = {"one": echo(value=1), "two": echo(value=2), "end": echo(value=3, needs=["two"])}

    assert drain(acme, go(acme, added)).output == {"one": 1, "end": 3}


def test_nothing_to_add_completes_the_step_with_its_output(acme: World) -> None:
    run = drain(acme, go(acme, {}, "nothing to do"))

    assert (run.status, run.output) == ("completed", "nothing to do")


def test_added_steps_read_the_input_and_what_their_step_gave(acme: World) -> None:
    added = [
        {"name": "one", "needs": ["plan"], **echo(value="${input.list}")},
        {"name": "two", **echo(value="${steps.plan.output.steps.0.name}")},
    ]
    given = {"add": {"steps": added}, "list": [7]}
    run_id = start(acme, {"plan": adding()}, given=given, inputs=WHERE)

    assert drain(acme, run_id).output == {"one": [7], "two": "one"}


def test_sequential_runs_added_steps_one_after_another(acme: World) -> None:
    run_id = go(acme, {"one": echo(value=1), "two": echo(value=2)}, strategy="sequential")
    advance(acme.tenant.id, run_id)
    for name in ("plan", "plan.one", "plan.two"):
        (due,) = queued(acme, run_id)
        assert due.step == name
        agent_runs.execute(acme.tenant.id, due.id, worker="w1")
        advance(acme.tenant.id, run_id)

    assert drain(acme, run_id).status == "completed"


@STRATEGIES
def test_all_kinds_of_steps_may_be_added(acme: World, strategy: str) -> None:
    published(acme, {"say": echo(value="${input.x}")}, inputs=TAKES_X)
    loop = {"steps": {"say": echo(value="${loop.round}")}, "until": "loop.round == 2"}
    added = {
        "many": {**echo(value="${item}"), "map": {"over": "${input.list ?? 'none'}"}},
        "calls": {
            "workflow": "check",
            "input": {"x": "${item}"},
            "map": {"over": "${steps.many.output}"},
            "needs": ["many"],
        },
        "polish": {"loop": {**loop, "max_rounds": 3}},
        "never": {**echo(value=1), "when": "size(input.list) > 9"},
    }
    output = {"calls": "${steps.calls.output}", "polish": "${steps.polish.output}"}
    given = {"add": {"steps": added, "output": output}, "list": [1, 2]}
    run_id = start(acme, {"plan": adding()}, given=given, strategy=strategy)

    run = drain_all(acme, run_id)

    assert run.output == {"calls": [1, 2], "polish": 2}
    assert step_of(acme, run_id, "plan.never").status == "skipped"
    assert step_of(acme, run_id, "plan.polish[1].say").output == 2


TAKES_X = {"type": "object", "required": ["x"], "properties": {"x": {}}}


def test_added_steps_may_add_steps(acme: World) -> None:
    inner = {"steps": {"dig": echo(value="deep")}}
    outer = {"more": {**echo(value=inner), "adds_steps": True}, "flat": echo(value=1)}
    run_id = go(acme, outer)

    assert drain(acme, run_id).output == {"more": "deep", "flat": 1}
    assert step_of(acme, run_id, "plan.more.dig").status == "completed"


def test_items_and_rounds_may_add_steps(acme: World) -> None:
    each = {**echo(value={"steps": {"say": echo(value="${input.word}")}}), "adds_steps": True}
    loop = {"steps": {"dig": each}, "until": "steps.dig.output == 'x'", "max_rounds": 1}
    steps = {
        "each": {**each, "map": {"over": "${input.list}"}},
        "polish": {"loop": loop},
    }
    run_id = start(acme, steps, given={"list": [1, 2], "word": "x"})

    run = drain(acme, run_id)

    assert run.output == {"each": ["x", "x"], "polish": "x"}
    assert step_of(acme, run_id, "each[1].say").output == "x"
    assert step_of(acme, run_id, "polish[0].dig.say").output == "x"


@pytest.mark.parametrize(
    ("added", "told"),
    [
        ({"a": {"agent": "nobody", "prompt": "x"}}, "/steps/a/agent: There is no agent `nobody`"),
        ({"a": echo(value="${steps.b.output}")}, "/steps/a/arguments/value: There is no step `b`"),
        ({"a": echo(needs=["end"], value=1)}, "/steps/a/needs/0: There is no step `end`"),
        ({"a": {}, "b": {"tools": 1}}, "/steps/b: Write exactly one of"),
        ({"plan": echo(value=1)}, "/steps/plan: `plan` is the step that adds them"),
        ({"a": {"agent": {"type": "router", "prompt": "x"}}}, "/steps/a/agent/routes:"),
        ([{"name": "A", **echo(value=1)}], "/steps/A/name: Use up to 63 lower-case letters"),
        ([1, None], "/steps/0:"),
    ],
)
def test_steps_that_make_no_sense_fail_their_step_with_every_place(
    acme: World, added: Any, told: str
) -> None:
    run_id = go(acme, added)

    run = drain(acme, run_id)

    failed = step_of(acme, run_id, "plan")
    assert run.status == "failed"
    assert told in failed.status_reason
    assert failed.error["code"] == "added_steps_invalid"
    assert failed.attempt == 1
    with acme.scope():
        assert AgentRun.objects.filter(run_id=run_id).count() == 2


@pytest.mark.parametrize("given", ["text", {"output": 1}, {"steps": {"a": {}}, "else": 1}])
def test_output_that_is_no_steps_fails_the_step(acme: World, given: Any) -> None:
    run_id = start(acme, {"plan": adding()}, given={"add": given})

    assert drain(acme, run_id).status == "failed"
    assert step_of(acme, run_id, "plan").error["code"] == "output_invalid"


def test_more_steps_than_a_run_may_have_fail_their_step(acme: World, settings: Any) -> None:
    settings.MUSTER_MAX_ADDED_STEPS = 3
    two = {"steps": {"x": echo(value=1), "y": echo(value=2)}}
    steps = {name: {**echo(value=two), "adds_steps": True} for name in ("one", "two")}
    run_id = start(acme, steps, failure={"mode": "partial", "max_failed_ratio": 0.5})

    run = drain(acme, run_id)

    assert run.status == "partially_completed"
    assert run.added_steps == 2
    codes = [(step_of(acme, run_id, name).error or {}).get("code") for name in ("one", "two")]
    assert sorted(codes, key=str) == [None, "too_many_added_steps"]


def test_more_steps_at_once_than_a_run_may_have_are_not_even_examined(
    acme: World, settings: Any
) -> None:
    settings.MUSTER_MAX_ADDED_STEPS = 3
    run_id = go(acme, {f"s{n}": {"nonsense": n} for n in range(4)})

    assert drain(acme, run_id).status == "failed"
    assert step_of(acme, run_id, "plan").error["code"] == "too_many_added_steps"


@pytest.mark.parametrize("strategy", ["levels", "adaptive"])
def test_added_steps_share_the_window_of_their_run(acme: World, strategy: str) -> None:
    run_id = go(acme, {f"s{n}": echo(value=n) for n in range(5)}, strategy=strategy, max_parallel=2)
    advance(acme.tenant.id, run_id)
    agent_runs.execute(acme.tenant.id, step_of(acme, run_id, "plan").id, worker="w1")
    advance(acme.tenant.id, run_id)

    assert len(queued(acme, run_id)) == 2
    assert drain(acme, run_id).status == "completed"


def test_additions_below_each_other_end_at_the_depth_that_is_allowed(
    acme: World, settings: Any
) -> None:
    settings.MUSTER_MAX_ADDED_DEPTH = 1
    inner = {"steps": {"dig": echo(value="deep")}}
    run_id = go(acme, {"more": {**echo(value=inner), "adds_steps": True}})

    assert drain(acme, run_id).status == "failed"
    assert "deeper than 1" in step_of(acme, run_id, "plan.more").status_reason


@STRATEGIES
def test_added_step_that_fails_ends_a_run_that_fails_fast(acme: World, strategy: str) -> None:
    added = {"bad": broken(), "late": echo(needs=["good"], value=1), "good": echo(value=1)}
    run_id = go(acme, added, strategy=strategy)

    run = drain(acme, run_id)

    assert run.status == "failed"
    assert "`plan` failed: `bad` failed" in run.status_reason
    assert step_of(acme, run_id, "plan.late").status == "skipped"


def test_partial_policy_holds_among_added_steps_too(acme: World) -> None:
    added = {"bad": broken(), "good": echo(value=1)}
    output = {"good": "${steps.good.output}", "bad": "${steps.bad.output ?? 'none'}"}
    run_id = go(acme, added, output, failure={"mode": "partial"})

    run = drain(acme, run_id)

    assert (run.status, run.output) == ("completed", {"good": 1, "bad": "none"})
    assert step_of(acme, run_id, "plan").status_reason == "1 of 2 steps failed, 1 completed"


@STRATEGIES
def test_run_that_is_cancelled_between_ends_all_of_them(acme: World, strategy: str) -> None:
    run_id = go(acme, {"one": echo(value=1), "two": {"delay": "1h"}}, strategy=strategy)
    advance(acme.tenant.id, run_id)
    agent_runs.execute(acme.tenant.id, step_of(acme, run_id, "plan").id, worker="w1")
    advance(acme.tenant.id, run_id)

    act(acme, run_id, cancel_run)

    assert drain(acme, run_id).status == "cancelled"
    with acme.scope():
        assert not AgentRun.objects.filter(run_id=run_id).exclude(status="cancelled").exists()


def test_run_that_is_cancelled_before_its_steps_are_added_adds_none(acme: World) -> None:
    run_id = go(acme, {"one": echo(value=1)})
    advance(acme.tenant.id, run_id)
    agent_runs.execute(acme.tenant.id, step_of(acme, run_id, "plan").id, worker="w1")

    act(acme, run_id, cancel_run)

    assert drain(acme, run_id).status == "cancelled"
    assert step_of(acme, run_id, "plan").status == "cancelled"

    act(acme, run_id, retry_run)
    assert drain(acme, run_id).output == 1
    assert step_of(acme, run_id, "plan.one").attempt == 1


def test_paused_run_adds_nothing_until_it_is_resumed(acme: World) -> None:
    run_id = go(acme, {"one": echo(value=1)})
    advance(acme.tenant.id, run_id)
    agent_runs.execute(acme.tenant.id, step_of(acme, run_id, "plan").id, worker="w1")

    act(acme, run_id, pause_run)
    advance(acme.tenant.id, run_id)
    assert run_of(acme, run_id).added_steps == 0
    act(acme, run_id, resume_run)

    assert drain(acme, run_id).status == "completed"


def test_message_that_comes_twice_and_an_outcome_that_comes_twice_change_nothing(
    acme: World,
) -> None:
    run_id = go(acme, {"one": echo(value=1)})
    advance(acme.tenant.id, run_id)
    plan = step_of(acme, run_id, "plan")
    agent_runs.execute(acme.tenant.id, plan.id, worker="w1")
    agent_runs.execute(acme.tenant.id, plan.id, worker="w2")

    late = Finish(
        tenant_id=acme.tenant.id, agent_run_id=plan.id, attempt=1, status=AgentRunStatus.COMPLETED
    )
    assert finish(late, give_up=lambda: True) is None
    advance(acme.tenant.id, run_id)
    advance(acme.tenant.id, run_id)

    assert drain(acme, run_id).output == 1
    with acme.scope():
        tried = Attempt.objects.filter(agent_run=plan).order_by("number")
        assert list(tried.values_list("number", "outcome")) == [
            (1, "added_steps"),
            (2, "completed"),
        ]
        assert RunEvent.objects.filter(run_id=run_id, type="agent.added_steps").count() == 1


def test_worker_that_is_lost_before_its_outcome_is_written_leaves_nothing_behind(
    acme: World,
) -> None:
    run_id = go(acme, {"one": echo(value=1)})
    advance(acme.tenant.id, run_id)
    plan = step_of(acme, run_id, "plan")
    stale = take(acme, plan.id, lease=EXPIRED)
    sweep()
    assert drain(acme, run_id).output == 1

    added = {"plan": {"steps": []}, "depth": 1, "output": None}
    given = agent_runs._Result(added=added)
    assert not agent_runs._finish(stale, given, Lease(plan.id, 1))
    assert step_of(acme, run_id, "plan").attempt == 3
    assert run_of(acme, run_id).added_steps == 1


def test_item_whose_added_steps_fail_is_null_where_the_map_accepts_it(acme: World) -> None:
    divide = {
        "agent": {"type": "tool", "tool": "calculator"},
        "arguments": {"expression": "1 / ${item}"},
    }
    each = {
        **echo(value={"steps": {"in": divide, "also": echo(value="${item}")}}),
        "adds_steps": True,
        "map": {"over": "${input.list}", "parallel": 1, "allow_failed": 0.5},
    }
    steps = {"each": each, "end": echo(value="${steps.each.output}", needs=["each"])}
    run_id = start(acme, steps, given={"list": [1, 0]}, failure={"mode": "fail_fast"})

    run = drain(acme, run_id)

    assert (run.status, run.output) == ("completed", [{"in": 1, "also": 1}, None])
    with acme.scope():
        left = AgentRun.objects.filter(run_id=run_id, finished_at=None)
        assert not left.exists()


def test_retried_run_keeps_what_completed_of_the_added_steps(acme: World) -> None:
    added = {"good": echo(value=1), "bad": broken(needs=["good"])}
    run_id = go(acme, added)
    drain(acme, run_id)

    act(acme, run_id, retry_run)
    run = drain(acme, run_id)

    assert run.status == "failed"
    assert step_of(acme, run_id, "plan.good").attempt == 1
    assert step_of(acme, run_id, "plan.bad").attempt == 2
    with acme.scope():
        worked = Attempt.objects.filter(agent_run__run_id=run_id, agent_run__step="plan")
        assert worked.filter(outcome="added_steps").count() == 1


def test_replay_from_the_adding_step_has_it_decide_anew(acme: World) -> None:
    run_id = go(acme, {"one": echo(value=1)})
    drain(acme, run_id)

    with acme.scope():
        other = {"add": {"steps": {"other": echo(value=2)}}}
        new = replay_run(Run.objects.get(id=run_id), from_step="plan", input=other).id

    assert drain(acme, new).output == 2
    assert step_of(acme, new, "plan.other").status == "completed"


def test_replay_from_a_later_step_reuses_what_the_added_ones_came_to(acme: World) -> None:
    run_id = go(acme, {"one": echo(value=1)})
    drain(acme, run_id)

    with acme.scope():
        new = replay_run(Run.objects.get(id=run_id), from_step="end").id

    assert drain(acme, new).output == 1
    assert step_of(acme, new, "plan").attempt == 0


def test_agents_of_another_tenant_cannot_be_added(acme: World, globex: World) -> None:
    published(globex, {"say": echo(value=1)})
    run_id = go(acme, {"sub": {"workflow": "check"}})

    assert drain(acme, run_id).status == "failed"
    assert "There is no published workflow `check`" in step_of(acme, run_id, "plan").status_reason


def test_step_that_may_not_add_steps_gives_them_as_mere_data(acme: World) -> None:
    run_id = go(acme, {"one": echo(value=1)}, plan=echo(value="${input.add}"))

    assert "steps" in drain(acme, run_id).output
    assert run_of(acme, run_id).added_steps == 0


def test_agent_may_only_add_steps_where_the_workflow_says_so(
    acme: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def planning(*_: Any, **__: Any) -> Outcome:
        return Outcome(output=1, text="", adds=AddedSteps(steps={"one": echo(value=1)}))

    monkeypatch.setattr(agent_runs, "run_agent", planning)
    run_id = start(acme, {"plan": echo(value=1)})

    assert drain(acme, run_id).status == "failed"
    assert "does not say `adds_steps: true`" in step_of(acme, run_id, "plan").status_reason


def test_type_of_agent_may_add_steps_beside_its_output(
    acme: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As planning agents do."""
    added = AddedSteps(
        steps={"one": echo(value="${steps.plan.output.topic}")}, output="${steps.one.output}"
    )

    def planning(config: AgentConfig, **given: Any) -> Outcome:
        if config.adds_steps:
            return Outcome(output={"topic": "bees"}, text="", adds=added)
        return run_agent(config, **given)

    monkeypatch.setattr(agent_runs, "run_agent", planning)
    run_id = start(acme, {"plan": {**echo(value=1), "adds_steps": True}})

    assert drain(acme, run_id).output == "bees"


def test_graph_and_pages_show_added_steps(acme: World) -> None:
    inner = {"steps": {"dig": echo(value="deep")}}
    run_id = go(
        acme,
        {"more": {**echo(value=inner), "adds_steps": True}, "last": echo(needs=["more"], value=1)},
    )
    drain(acme, run_id)
    api = acme.client()

    drawn = api.get(f"/api/v1/runs/{run_id}/mermaid").content.decode()

    assert [line for line in drawn.splitlines() if "->" in line] == [
        "    s0 --> s1",
        "    s0 -.-> a0",
        "    a0 --> a1",
        "    a0 -.-> a2",
    ]
    assert "plan.more.dig" in drawn
    answer = api.get(f"/api/v1/runs/{run_id}").json()
    assert answer["steps"][0]["counts"] == {"completed": 2}
    tasks = {task["name"] for task in api.get(f"/api/v1/runs/{run_id}/metrics").json()["tasks"]}
    assert tasks == {"plan", "end", "plan.more", "plan.last", "plan.more.dig"}
    page = acme.browser().get(f"/admin/orchestrator/run/{run_id}/change/?step=plan.more")
    assert page.status_code == 200
    assert '"a2": "plan.more.dig"' in page.content.decode()
