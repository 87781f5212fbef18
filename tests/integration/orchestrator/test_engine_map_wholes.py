"""Maps whose items are sub-workflows, loops or approvals, against the real database."""

from datetime import date
from typing import Any
from uuid import UUID

import pytest

from costs.models import TenantPrice
from orchestrator.core.state import AgentRunStatus
from orchestrator.models import AgentRun, Approval, Run
from orchestrator.selectors.runs import reason_now, step_summaries
from orchestrator.services import children
from orchestrator.services.advance import advance
from orchestrator.services.approvals import decide
from orchestrator.services.control import cancel_run, pause_run, resume_run, retry_run
from tests.e2e.stories import echo, simulated, start
from tests.engine_driver import drain, drain_all, live_children, run_of, step_of
from tests.integration.orchestrator.test_approvals import person
from tests.integration.orchestrator.test_engine_calls import published
from tests.integration.orchestrator.test_engine_control import act
from tests.integration.orchestrator.test_engine_loops import counting
from tests.integration.orchestrator.test_engine_maps import last
from tests.integration.orchestrator.test_engine_strategies import broken
from tests.world import World

STRATEGIES = pytest.mark.parametrize("strategy", ["sequential", "levels", "adaptive"])
ANY = {"type": "object", "required": ["x", "i"], "properties": {"x": {}, "i": {}}}
DIVIDED = {"agent": {"type": "tool", "tool": "calculator"}}


def calls(**given: Any) -> dict[str, Any]:
    over = {"over": "${input.list}", **given}
    return {"workflow": "check", "input": {"x": "${item}", "i": "${index}"}, "map": over}


def loops(until: str = "steps.count.output >= item", **given: Any) -> dict[str, Any]:
    """Each item counts up to what it says."""
    return {**counting(until), "map": {"over": "${input.list}", **given}}


def checking(world: World, *steps: dict[str, Any]) -> None:
    say = echo(value={"x": "${input.x}", "i": "${input.i}"})
    published(world, {"say": say, **{f"s{n}": step for n, step in enumerate(steps)}}, inputs=ANY)


def items(world: World, run_id: UUID, step: str = "each") -> list[str]:
    with world.scope():
        whole = AgentRun.objects.get(run_id=run_id, step=step)
        of_map = AgentRun.objects.filter(parent_id=whole.id).order_by("item_index")
        return list(of_map.values_list("status", flat=True))


def dividing(world: World) -> None:
    """Items that are 0 fail."""
    step = {**DIVIDED, "arguments": {"expression": "1/${input.x}"}}
    published(world, {"say": step}, inputs=ANY)


@STRATEGIES
def test_map_of_workflows_gives_what_they_give_in_order(acme: World, strategy: str) -> None:
    checking(acme)
    steps = {"each": calls(), "end": last()}
    run_id = start(acme, steps, given={"list": ["a", None, {"b": 1}]}, strategy=strategy)

    run = drain_all(acme, run_id)

    assert (run.status, run.status_reason) == ("completed", "2 of 2 steps completed")
    assert run.output == [
        {"x": "a", "i": 0},
        {"x": None, "i": 1},
        {"x": {"b": 1}, "i": 2},
    ]


@STRATEGIES
def test_map_of_loops_sees_the_item_in_its_rounds(acme: World, strategy: str) -> None:
    run_id = start(
        acme, {"each": loops(), "end": last()}, given={"list": [3, 1]}, strategy=strategy
    )

    run = drain(acme, run_id)

    assert (run.status, run.output) == ("completed", [{"n": 3, "round": 3}, {"n": 1, "round": 1}])
    assert step_of(acme, run_id, "each[0][2].count").output == 3


@pytest.mark.parametrize("step", [calls(), loops()], ids=["calls", "loops"])
def test_map_of_wholes_over_nothing_gives_an_empty_list(acme: World, step: dict[str, Any]) -> None:
    checking(acme)
    run_id = start(acme, {"each": step, "end": last()}, given={"list": []})

    assert drain(acme, run_id).output == []


def test_loop_of_an_item_may_map_and_call_and_ask_its_condition_about_the_item(acme: World) -> None:
    checking(acme)
    body = {
        "many": {**echo(value="${item}"), "map": {"over": "${item}"}, "when": "size(item) > 1"},
        "sub": {"workflow": "check", "input": {"x": "${item}", "i": "${index}"}, "needs": ["many"]},
    }
    loop = {
        "steps": body,
        "until": "steps.sub.output.x == item",
        "max_rounds": 1,
        "output": {
            "many": "${steps.many.output ?? 'none'}",
            "i": "${index}",
            "of": "${loop.round}",
        },
    }
    step = {"loop": loop, "map": {"over": "${input.list}"}}
    run_id = start(acme, {"each": step}, given={"list": [[1, 2], [3]]}, strategy="adaptive")

    run = drain_all(acme, run_id)

    assert run.status == "failed"  # What needs a skipped step alone is skipped.
    assert step_of(acme, run_id, "each[0][0].many").output == [1, 2]
    assert step_of(acme, run_id, "each[0][0].sub").output == {"x": [1, 2], "i": 0}
    assert step_of(acme, run_id, "each[0]").output == {"many": [1, 2], "i": 0, "of": 1}


def test_loop_inside_of_a_loop_reads_the_steps_around_it(acme: World) -> None:
    inner = {"steps": {"in": echo(value="${steps.out.output}")}, "until": "true", "max_rounds": 1}
    outer = {
        "steps": {
            "out": echo(value="round ${loop.round}"),
            "deep": {"loop": inner, "needs": ["out"]},
        },
        "until": "steps.deep.output == 'round 2'",
        "max_rounds": 2,
        "output": "${steps.deep.output}",
    }

    assert drain(acme, start(acme, {"polish": {"loop": outer}})).output == "round 2"


@STRATEGIES
def test_no_more_runs_than_parallel_are_under_way(acme: World, strategy: str) -> None:
    checking(acme)
    run_id = start(
        acme, {"each": calls(parallel=2)}, given={"list": [*range(5)]}, strategy=strategy
    )
    drain(acme, run_id)

    assert len(live_children(acme, run_id)) == 2
    assert items(acme, run_id) == ["running"] * 2 + ["pending"] * 3
    drain(acme, live_children(acme, run_id)[1])
    drain(acme, run_id)
    assert items(acme, run_id) == ["running", "completed", "running", "pending", "pending"]
    assert len(drain_all(acme, run_id).output) == 5


def test_no_more_loops_than_parallel_are_under_way(acme: World) -> None:
    run_id = start(acme, {"each": loops(parallel=2)}, given={"list": [1, 1, 1]})
    advance(acme.tenant.id, run_id)

    assert items(acme, run_id) == ["running", "running", "pending"]
    assert drain(acme, run_id).status == "completed"


def test_many_runs_are_not_started_all_at_once(acme: World) -> None:
    checking(acme)
    run_id = start(acme, {"each": calls()}, given={"list": [*range(300)]})

    drain(acme, run_id)

    assert len(live_children(acme, run_id)) == 100


def test_failed_items_are_null_as_far_as_the_map_accepts_them(acme: World) -> None:
    dividing(acme)
    steps = {"each": calls(allow_failed=0.5), "end": last()}
    run_id = start(acme, steps, given={"list": [1, 0]})

    assert drain_all(acme, run_id).output == [1, None]


def test_item_that_fails_fails_the_map_with_its_reason(acme: World) -> None:
    run_id = start(acme, {"each": loops("steps.count.output / item > 1")}, given={"list": [1, 0]})

    run = drain(acme, run_id)

    assert run.status == "failed"
    assert "1 of 2 items failed" in run.status_reason
    assert "item 1 failed" in run.status_reason


def test_item_whose_input_does_not_fit_fails_alone(acme: World) -> None:
    inputs = {**ANY, "properties": {"x": {"type": "string"}, "i": {}}}
    published(acme, {"say": echo(value="${input.x}")}, inputs=inputs)
    run_id = start(acme, {"each": calls(allow_failed=0.5)}, given={"list": [7, "a"]})

    assert drain_all(acme, run_id).output == [None, "a"]
    assert step_of(acme, run_id, "each[0]").error["code"] == "invalid_input"


@pytest.mark.parametrize("strategy", ["levels", "adaptive"])
def test_cancelled_run_ends_its_items_and_their_runs(acme: World, strategy: str) -> None:
    checking(acme)
    run_id = start(acme, {"each": calls(parallel=2)}, given={"list": [1, 2, 3]}, strategy=strategy)
    drain(acme, run_id)
    under_way = live_children(acme, run_id)

    act(acme, run_id, cancel_run)
    assert drain_all(acme, run_id).status == "cancelled"

    assert [run_of(acme, child).status for child in under_way] == ["cancelled"] * 2
    assert items(acme, run_id) == ["cancelled"] * 3


def test_run_that_is_cancelled_before_its_items_have_runs_ends(
    acme: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    checking(acme)
    run_id = start(acme, {"each": calls()}, given={"list": [1, 2]})
    with monkeypatch.context() as crash:
        crash.setattr("orchestrator.services.advance.start_children", lambda *_: None)
        drain(acme, run_id)

    act(acme, run_id, cancel_run)

    assert drain(acme, run_id).status == "cancelled"
    assert items(acme, run_id) == ["cancelled"] * 2


def test_paused_run_pauses_the_runs_of_its_items(acme: World) -> None:
    checking(acme)
    run_id = start(acme, {"each": calls(parallel=1)}, given={"list": [1, 2]})
    drain(acme, run_id)

    act(acme, run_id, pause_run)
    (child,) = live_children(acme, run_id)
    assert drain(acme, child).status == "paused"

    act(acme, run_id, resume_run)
    assert drain_all(acme, run_id).status == "completed"


def test_retried_map_runs_only_the_items_that_failed(acme: World) -> None:
    dividing(acme)
    run_id = start(acme, {"each": calls()}, given={"list": [1, 0, 2]})
    drain_all(acme, run_id)

    act(acme, run_id, retry_run)
    run = drain_all(acme, run_id)

    assert run.status == "failed"
    assert [step_of(acme, run_id, f"each[{n}]").attempt for n in range(3)] == [1, 2, 1]
    with acme.scope():
        assert Run.objects.filter(parent_agent_run_id__isnull=False).count() == 3


def test_retried_map_of_loops_goes_on_where_each_item_failed(acme: World) -> None:
    body = {"good": echo(value=1), "bad": {**DIVIDED, "arguments": {"expression": "1/${item}"}}}
    body["bad"]["needs"] = ["good"]
    loop = {"steps": body, "until": "true", "max_rounds": 1}
    step = {"loop": loop, "map": {"over": "${input.list}"}}
    run_id = start(acme, {"each": step}, given={"list": [1, 0]})
    drain(acme, run_id)

    act(acme, run_id, retry_run)
    drain(acme, run_id)

    tried = {n: step_of(acme, run_id, n).attempt for n in ("each[0]", "each[1]", "each[1][0].good")}
    assert tried == {"each[0]": 1, "each[1]": 2, "each[1][0].good": 1}
    assert step_of(acme, run_id, "each[1][0].bad").attempt == 2


@pytest.mark.parametrize("failing", ["calls", "loops"])
def test_retry_leaves_what_a_completed_map_has_accepted(acme: World, failing: str) -> None:
    dividing(acme)
    each = calls(allow_failed=1.0)
    if failing == "loops":
        each = loops("steps.count.output / item > 0", allow_failed=1.0)
    run_id = start(acme, {"each": each, "bad": broken(needs=["each"])}, given={"list": [0, 1]})
    drain_all(acme, run_id)
    before = items(acme, run_id)

    act(acme, run_id, retry_run)
    drain_all(acme, run_id)

    assert items(acme, run_id) == before == ["failed", "completed"]


@pytest.mark.parametrize("strategy", ["levels", "adaptive"])
@pytest.mark.parametrize("each", [calls(), loops("false")], ids=["calls", "loops"])
def test_run_that_fails_fast_calls_its_items_back(
    acme: World, each: dict[str, Any], strategy: str
) -> None:
    checking(acme, simulated("wait"))
    steps = {"each": each, "bad": broken(), "sub": {"workflow": "check", "input": {"x": 1, "i": 1}}}
    run_id = start(acme, steps, given={"list": [1, 2]}, strategy=strategy)

    run = drain_all(acme, run_id)

    assert run.status == "failed"
    assert step_of(acme, run_id, "each").status == AgentRunStatus.CANCELLED
    assert step_of(acme, run_id, "sub").status == AgentRunStatus.CANCELLED
    assert step_of(acme, run_id, "sub").error is None
    assert set(items(acme, run_id)) == {"cancelled"}


def test_run_of_a_step_that_somebody_cancels_fails_the_step(acme: World) -> None:
    checking(acme)
    run_id = start(acme, {"sub": {"workflow": "check", "input": {"x": 1, "i": 1}}})
    drain(acme, run_id)
    (child,) = live_children(acme, run_id)

    act(acme, child, cancel_run)
    drain_all(acme, run_id)

    assert step_of(acme, run_id, "sub").status == "failed"


def test_crash_between_two_portions_of_runs_leaves_none_out_and_none_double(
    acme: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    checking(acme)
    monkeypatch.setattr(children, "BATCH", 2)
    run_id = start(acme, {"each": calls()}, given={"list": [*range(5)]})
    with monkeypatch.context() as crash:
        crash.setattr("orchestrator.services.advance.start_children", children._start_some)
        drain(acme, run_id)
    assert len(live_children(acme, run_id)) == 2

    advance(acme.tenant.id, run_id)
    advance(acme.tenant.id, run_id)

    assert len(live_children(acme, run_id)) == 5
    assert drain_all(acme, run_id).status == "completed"


def test_map_asks_about_each_item(acme: World) -> None:
    asking = {
        "approval": {"question": "Take ${item} (${index})?"},
        "map": {"over": "${input.list}", "parallel": 2},
    }
    steps = {"each": asking, "end": last()}
    run_id = start(acme, steps, given={"list": ["a", "b", "c"]}, strategy="adaptive")
    drain(acme, run_id)
    with acme.scope():
        asked = Approval.objects.filter(run_id=run_id).order_by("question")
        assert [each.question for each in asked] == ["Take a (0)?", "Take b (1)?"]
        assert reason_now(run_of(acme, run_id)) == "1 of 2 steps waits"

    for question, decision in [("a (0)", "approve"), ("b (1)", "reject"), ("c (2)", "approve")]:
        with acme.scope():
            approval = Approval.objects.get(run_id=run_id, question=f"Take {question}?")
            decide(approval, principal=person(acme), decision=decision)
        drain(acme, run_id)

    run = run_of(acme, run_id)
    assert run.status == "completed"
    assert [each and each["decision"] for each in run.output] == ["approve", None, "approve"]


@pytest.mark.parametrize("each", [calls(), loops()], ids=["calls", "loops"])
def test_summary_counts_items_and_sums_their_cost(acme: World, each: dict[str, Any]) -> None:
    with acme.scope():
        price = {"valid_from": date(2026, 1, 1), "input_usd": 1, "output_usd": 2}
        TenantPrice.objects.create(provider="simulated", model="sim", **price)
    checking(acme, simulated("think"))
    if "loop" in each:
        each["loop"]["steps"]["ask"] = simulated("think")
    run_id = start(acme, {"each": each}, given={"list": [2, 1]})
    run = drain_all(acme, run_id)

    with acme.scope():
        (step,) = step_summaries(run_id)

    assert step.counts == {"completed": 2}
    assert step.cost_nano == run.cost_nano > 0
