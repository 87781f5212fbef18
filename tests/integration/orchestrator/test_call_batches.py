"""Calls that several threads of a worker open and end at once, in one transaction."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from uuid_utils.compat import uuid7

from orchestrator.execution import call_rows
from orchestrator.models import LlmCall
from orchestrator.services.advance import advance
from orchestrator.services.sweep import sweep
from tests.e2e.stories import simulated, start
from tests.engine_driver import queued
from tests.integration.costs.test_budgets import budget, state
from tests.integration.orchestrator.test_engine import expire, take
from tests.world import World

COUNT = 6


def facts(world: World, agent_run: Any, call: Any, **other: Any) -> tuple[Any, dict[str, Any]]:
    given = {
        "agent_run": str(agent_run),
        "attempt": 1,
        "call": str(call),
        "turn": 1,
        "provider": "simulated",
        "model": "sim",
        "role": "executor",
        "credential": None,
        "request": {},
        "prices": {},
        "estimate": 5,
        "bound": 10,
        "cap": None,
        "project": str(world.project.id),
        "workflow": str(uuid7()),
        "runs": "{}",
        "agent": "prompt",
    }
    return world.tenant.id, {**given, **other}


def ending(world: World, call: Any, *, cost: int = 3) -> tuple[Any, dict[str, Any]]:
    usage = {"input": 1, "output": 1, "cached": 0, "cache_write": 0, "reasoning": 0}
    told = {"reply": None, "error": None, "model": "sim", "estimated": False, **usage}
    return world.tenant.id, {"call": str(call), "status": "closed", "cost": cost, **told}


@pytest.fixture
def agent_runs(acme: World) -> list[Any]:
    run_id = start(acme, {f"s{n}": simulated("x") for n in range(COUNT)})
    advance(acme.tenant.id, run_id)
    ids = [agent_run.id for agent_run in queued(acme, run_id)]
    for id in ids:
        take(acme, id)
    return ids


def test_calls_of_a_batch_are_held_one_by_one(acme: World, agent_runs: list[Any]) -> None:
    of_tenant = budget(acme, 35)
    calls = [uuid7() for _ in agent_runs]

    rows = call_rows._open_all([facts(acme, *pair) for pair in zip(agent_runs, calls, strict=True)])

    assert [row["opened"] for row in rows] == ["opened"] * 3 + ["busy"] * 3
    assert state(acme, of_tenant) == (0, 30, 0)
    assert call_rows._end_all([ending(acme, call) for call in calls[:3]]) == [True] * 3
    assert state(acme, of_tenant) == (9, 0, 0)


def test_each_call_of_a_batch_has_its_own_answer(acme: World, agent_runs: list[Any]) -> None:
    stale = facts(acme, agent_runs[0], uuid7(), attempt=7)
    capped = facts(acme, agent_runs[1], uuid7(), cap=9)
    good = facts(acme, agent_runs[2], uuid7())

    rows = call_rows._open_all([stale, good, capped])
    again = call_rows._open_all([good, stale])

    assert [row["opened"] for row in rows] == ["lost", "opened", "capped"]
    assert [row["opened"] for row in again] == ["opened", "lost"]
    with acme.scope():
        assert LlmCall.objects.count() == 1


def test_late_answer_in_a_batch_corrects_as_it_does_alone(
    acme: World, agent_runs: list[Any]
) -> None:
    of_tenant = budget(acme, 1000)
    late, quick = uuid7(), uuid7()
    pairs = zip(agent_runs[:2], (late, quick), strict=True)
    call_rows._open_all([facts(acme, *pair) for pair in pairs])
    expire(agent_runs[0])
    sweep()
    assert state(acme, of_tenant) == (10, 10, 0)

    ends = [ending(acme, late), ending(acme, quick), ending(acme, uuid7())]

    assert call_rows._end_all(ends) == [True, True, False]
    assert call_rows._end_all(ends) == [False] * 3
    assert state(acme, of_tenant) == (6, 0, 0)


def test_batches_over_many_budgets_never_wait_for_each_other_for_good(
    acme: World, agent_runs: list[Any]
) -> None:
    workflows = [uuid7() for _ in range(3)]
    budgets = [budget(acme, 10**6, scope="workflow", scope_id=each) for each in workflows]
    budgets.append(budget(acme, 10**6))

    def work(number: int) -> int:
        spent = 0
        for turn in range(15):
            calls = [uuid7() for _ in agent_runs]
            order = agent_runs[number:] + agent_runs[:number]
            rows = call_rows._open_all(
                [
                    facts(acme, run, call, workflow=str(workflows[(turn + n) % 3]), turn=turn)
                    for n, (run, call) in enumerate(zip(order, calls, strict=True))
                ]
            )
            assert {row["opened"] for row in rows} == {"opened"}
            spent += 3 * sum(call_rows._end_all([ending(acme, call) for call in calls[::-1]]))
        return spent

    with ThreadPoolExecutor(4) as threads:
        spent = sum(threads.map(work, range(4)))

    assert state(acme, budgets[-1]) == (spent, 0, 0)
    assert sum(state(acme, each)[0] for each in budgets[:-1]) == spent
