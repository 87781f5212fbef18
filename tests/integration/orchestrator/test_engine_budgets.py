"""Runs and their budgets, against the real database and the simulated provider."""

from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from costs.models import Budget, BudgetPeriod, CostEntry, TenantPrice
from orchestrator.core.errors import WorkflowInvalidError
from orchestrator.execution import engine_db, gateway
from orchestrator.execution.call_rows import end_call
from orchestrator.models import Attempt, LlmCall, Run, RunEvent
from orchestrator.services.advance import advance
from orchestrator.services.control import possible_actions, resume_run
from orchestrator.services.plan_prices import CapTooSmallError
from orchestrator.services.runs import start_run
from orchestrator.services.sweep import sweep
from orchestrator.services.workflows import publish_spec
from tests.e2e.stories import echo, simulated, start, statuses
from tests.engine_driver import drain, drain_all, open_limiter, run_of, step_of
from tests.integration.costs.test_budgets import budget, hold, set_limit, settle, state
from tests.integration.orchestrator.test_engine import expire, open_call, take
from tests.integration.orchestrator.test_engine_calls import child_of, published
from tests.integration.orchestrator.test_engine_control import act
from tests.world import World

USD = 10**9
# What a call of `thought` costs, and may cost: it gives 100 output tokens of at most 1,000.
COST, WORST = USD // 10_000, USD // 1_000
# A budget that lets six of them through: the seventh finds 6 * COST spent, and needs WORST.
SIX = WORST + 5 * COST


@pytest.fixture(autouse=True)
def _priced(acme: World, monkeypatch: pytest.MonkeyPatch) -> None:
    open_limiter()
    monkeypatch.setattr(gateway, "SHORT_WAIT_SECONDS", 0.0)
    with acme.scope():
        TenantPrice.objects.create(
            provider="simulated",
            model="*",
            valid_from="2020-01-01",
            input_usd=Decimal(0),
            output_usd=Decimal(1),
        )


def thought(needs: list[str] | None = None, **fields: Any) -> dict[str, Any]:
    parameters = {"output_tokens": 100, "max_output_tokens": 1000, **fields.pop("parameters", {})}
    return {**simulated("think", needs, **parameters), **fields}


def chain(count: int) -> dict[str, Any]:
    return {f"s{n}": thought([f"s{n - 1}"] if n else None) for n in range(count)}


def spent(world: World) -> int:
    with world.scope():
        return sum(CostEntry.objects.values_list("amount_nano", flat=True))


def calls(world: World) -> int:
    with world.scope():
        return CostEntry.objects.filter(kind="call").count()


@pytest.mark.parametrize("strategy", ["levels", "adaptive", "sequential"])
def test_run_ends_when_a_budget_is_exhausted_and_goes_on_when_it_is_raised(
    acme: World, strategy: str
) -> None:
    monthly = budget(acme, SIX, interval="month", name="November")
    run_id = start(acme, chain(8), strategy=strategy, output={"first": "${steps.s0.output ?? ''}"})

    run = drain(acme, run_id)

    assert run.status == "budget_exceeded"
    assert 'The budget "November" (tenant, month 20' in run.status_reason
    assert "0.0006 USD of 0.0015 USD are spent, and the next call may cost 0.001 USD" in (
        run.status_reason
    )
    assert run.output["first"]
    assert run.cost_nano == spent(acme) == 6 * COST
    assert state(acme, monthly) == (6 * COST, 0, 0)
    assert statuses(acme, run_id) == {
        **{f"s{n}": "completed" for n in range(6)},
        "s6": "budget_exceeded",
        "s7": "cancelled",
    }

    set_limit(acme, monthly, USD)
    act(acme, run_id, resume_run)
    run = drain(acme, run_id)

    assert run.status == "completed"
    assert calls(acme) == 8


def test_run_that_is_resumed_without_a_raise_ends_as_before(acme: World) -> None:
    budget(acme, SIX)
    run_id = start(acme, chain(8))
    drain(acme, run_id)

    act(acme, run_id, resume_run)
    run = drain(acme, run_id)

    assert (run.status, calls(acme)) == ("budget_exceeded", 6)
    assert "resume" in possible_actions(run)


def test_one_tenants_budget_is_nothing_to_another(acme: World, globex: World) -> None:
    of_globex = budget(globex, 0)
    run_id = start(acme, chain(1))

    assert drain(acme, run_id).status == "completed"
    with globex.scope():
        assert not BudgetPeriod.objects.filter(budget=of_globex).exists()


def test_cap_of_a_run_holds_for_the_runs_that_it_starts(acme: World) -> None:
    published(acme, chain(3))
    run_id = start(
        acme,
        {
            "a": {"workflow": "check"},
            "b": {"workflow": "check", "needs": ["a"]},
            "c": thought(["b"]),
        },
        max_cost_usd="0.0014",
    )

    run = drain_all(acme, run_id)

    assert (run.status, run.max_cost_nano) == ("budget_exceeded", 14 * COST)
    assert "The run's cap has too little left" in run.status_reason
    assert statuses(acme, run_id) == {"a": "completed", "b": "budget_exceeded", "c": "cancelled"}
    assert calls(acme) == 5
    assert child_of(acme, run_id, "b").status == "budget_exceeded"


def test_less_than_the_workflow_allows_may_be_asked_for_and_not_more(acme: World) -> None:
    spec = {"muster": 1, "name": "story", "steps": chain(1), "max_cost_usd": "0.002"}
    with acme.scope():
        version = publish_spec(project=acme.project, spec=spec)
        given = {"workflow": version.workflow, "version": version, "input": {}}
        runs = [start_run(**given, max_cost_nano=nano).id for nano in (None, USD, WORST)]
        with pytest.raises(CapTooSmallError):
            start_run(**given, max_cost_nano=COST)

    assert [run_of(acme, run_id).max_cost_nano for run_id in runs] == [2 * WORST, 2 * WORST, WORST]
    assert drain(acme, runs[2]).status == "completed"


def test_step_that_reaches_its_own_cap_fails_and_only_that(acme: World) -> None:
    run_id = start(
        acme,
        {"a": thought(max_cost_usd="0.0009"), "b": thought(max_cost_usd="0.001")},
        failure={"mode": "partial"},
    )

    run = drain(acme, run_id)

    assert run.status == "partially_completed"
    a = step_of(acme, run_id, "a")
    assert (a.status, a.error["code"], a.attempt) == ("failed", "step_cap_exceeded", 1)
    assert a.status_reason == (
        "Its `max_cost_usd` of 0.0009 USD is too little: 0 USD are spent, "
        "and the next call may cost 0.001 USD"
    )


def test_map_whose_items_run_out_of_budget_ends_its_run(acme: World) -> None:
    of_tenant = budget(acme, SIX)
    each = {**thought(["list"]), "map": {"over": "${steps.list.output}", "allow_failed": 1.0}}
    run_id = start(acme, {"list": echo(value=list(range(9))), "each": each})

    run = drain(acme, run_id)

    assert (run.status, calls(acme)) == ("budget_exceeded", 6)
    set_limit(acme, of_tenant, USD)
    act(acme, run_id, resume_run)
    assert drain(acme, run_id).status == "completed"
    assert calls(acme) == 9


def test_loop_that_runs_out_of_budget_goes_on_where_it_stopped(acme: World) -> None:
    of_tenant = budget(acme, SIX)
    loop = {"steps": {"write": thought()}, "until": "loop.round == 8", "max_rounds": 9}
    run_id = start(acme, {"polish": {"loop": loop}})

    assert drain(acme, run_id).status == "budget_exceeded"
    set_limit(acme, of_tenant, USD)
    act(acme, run_id, resume_run)

    assert drain(acme, run_id).status == "completed"
    assert calls(acme) == 8


def test_call_waits_while_others_hold_what_it_needs(acme: World) -> None:
    of_tenant = budget(acme, WORST + COST, name="small")
    taken = hold(acme, 2 * COST)
    run_id = start(acme, {"a": thought()})

    drain(acme, run_id)

    a = step_of(acme, run_id, "a")
    assert (a.status, a.waiting_for, a.waits_on) == (
        "waiting",
        "budget",
        'the budget "small" (tenant)',
    )
    assert (a.due_at, a.waiting_since, a.spared) != (None, None, 0)
    settle(acme, taken, spent=0)
    make_due(a.id)
    sweep()
    assert drain(acme, run_id).status == "completed"
    a = step_of(acme, run_id, "a")
    assert (a.attempt, a.waiting_since, a.waits_on) == (2, None, "")
    with acme.scope():
        outcomes = list(Attempt.objects.filter(agent_run_id=a.id).values_list("outcome", flat=True))
    assert outcomes == ["waited", "completed"]
    assert state(acme, of_tenant) == (COST, 0, 0)


def make_due(agent_run: UUID) -> None:
    engine_db.one(
        "UPDATE agent_run SET due_at = now() - interval '1 s' WHERE id = %s RETURNING id",
        agent_run,
        alias="system",
    )


def test_waiting_is_no_attempt_and_ends_when_the_step_says_so(acme: World) -> None:
    budget(acme, WORST + COST)
    hold(acme, 2 * COST)
    run_id = start(acme, {"a": {**thought(max_wait="20s"), "retry": {"attempts": 2}}})
    for _ in range(3):
        drain(acme, run_id)
        assert step_of(acme, run_id, "a").status == "waiting"
        make_due(step_of(acme, run_id, "a").id)
        sweep()
    engine_db.one(
        """UPDATE agent_run SET waiting_since = now() - interval '20 s' WHERE run_id = %s
           RETURNING id""",
        run_id,
        alias="system",
    )

    run = drain(acme, run_id)

    assert run.status == "failed"
    assert "it may wait for at most 20 s" in run.status_reason


def test_call_in_doubt_is_spent(acme: World) -> None:
    of_tenant = budget(acme, USD)
    fails = {"failures": {"timeout": 1.0}}
    run_id = start(acme, {"a": thought(parameters=fails, timeout="1s", retry={"attempts": 1})})

    assert drain(acme, run_id).status == "failed"

    assert state(acme, of_tenant) == (WORST, 0, 0)
    assert spent(acme) == WORST


def test_refused_call_gives_back_what_it_held(acme: World) -> None:
    of_tenant = budget(acme, USD)
    run_id = start(acme, {"a": thought(parameters={"failures": {"auth": 1.0}})})

    assert drain(acme, run_id).status == "failed"
    assert state(acme, of_tenant) == (0, 0, 0)


def test_call_of_a_lost_worker_is_spent(acme: World) -> None:
    of_tenant = budget(acme, USD)
    run_id = start(acme, {"a": thought()})
    advance(acme.tenant.id, run_id)
    open_and_die(acme, run_id)

    sweep()

    (lost,) = with_status(acme, "in_doubt")
    assert state(acme, of_tenant) == (lost.hold_nano, 0, 0)
    assert drain(acme, run_id).status == "completed"
    assert state(acme, of_tenant) == (lost.hold_nano + COST, 0, 0)
    assert spent(acme) == lost.hold_nano + COST == run_of(acme, run_id).cost_nano


def test_late_answer_corrects_what_is_spent(acme: World) -> None:
    of_tenant = budget(acme, USD)
    run_id = start(acme, {"a": thought()})
    advance(acme.tenant.id, run_id)
    open_and_die(acme, run_id)
    sweep()
    (lost,) = with_status(acme, "in_doubt")

    end_call(acme.tenant.id, lost.id, status="closed", charge=7)
    end_call(acme.tenant.id, lost.id, status="closed", charge=7)

    assert state(acme, of_tenant) == (7, 0, 0)


def with_status(world: World, status: str) -> list[LlmCall]:
    with world.scope():
        return list(LlmCall.objects.filter(status=status))


def open_and_die(world: World, run_id: UUID) -> None:
    agent_run = step_of(world, run_id, "a").id
    open_call(take(world, agent_run))
    expire(agent_run)


def test_end_of_the_money_is_told(acme: World) -> None:
    budget(acme, 0, name="none")
    run_id = start(acme, chain(1))

    drain(acme, run_id)

    with acme.scope():
        told = dict(RunEvent.objects.filter(run_id=run_id).values_list("type", "data"))
    assert told["agent.budget_exceeded"]["error"]["code"] == "budget_exceeded"
    assert told["run.budget_exceeded"]["reason"].startswith('The budget "none" (tenant)')


def test_cap_of_a_loop_is_refused_where_it_stands(acme: World) -> None:
    loop = {"steps": {"write": thought()}, "until": "true", "max_rounds": 2}

    with pytest.raises(WorkflowInvalidError) as caught:
        start(acme, {"polish": {"loop": loop, "max_cost_usd": "1"}})

    assert [problem.loc for problem in caught.value.problems] == ["/steps/polish/max_cost_usd"]


def test_cap_of_a_run_can_be_raised_like_any_budget(acme: World) -> None:
    run_id = start(acme, chain(2), max_cost_usd="0.001")
    assert drain(acme, run_id).status == "budget_exceeded"

    with acme.scope():
        Budget.objects.filter(scope="run", scope_id=run_id).update(limit_nano=USD)
    act(acme, run_id, resume_run)

    assert drain(acme, run_id).status == "completed"
    assert calls(acme) == 2
    with acme.scope():
        assert Run.objects.get(id=run_id).max_cost_nano == USD
