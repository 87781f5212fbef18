"""Each invariant notices what it is there for."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from orchestrator.chaos.check_delegation import (
    delegates_belong,
    delegates_keep_their_budgets,
    depth_is_kept,
)
from orchestrator.chaos.check_people import approvals_are_decided_once
from orchestrator.chaos.evidence import Evidence, Leftovers
from orchestrator.chaos.flows import LEAF, Flow, Vertex
from orchestrator.chaos.provider import Entry
from orchestrator.chaos.traffic import Started
from orchestrator.chaos.verdict import judge, recovery_p95_seconds

RUN, STEP, CALL = (UUID(int=number) for number in (1, 2, 3))
LEAF_FLOW = Flow(name=LEAF, vertices=(Vertex(name="a"),), strategy="levels")
FLOW = Flow(name="one", vertices=(Vertex(name="a", route="left"),), strategy="levels")
BUDGET = {
    **{"tenant_id": RUN, "scope": "tenant", "limit_nano": 1000, "spent_nano": 90, "held_nano": 0},
    **{"overrun_nano": 0, "ledger_nano": 90},
}
ANSWER = {"route": "left", "said": "a of r1"}


def event(number: int, kind: str, agent_run: UUID | None = None, **data: Any) -> dict[str, Any]:
    return {"id": number, "type": kind, "agent_run_id": agent_run, "data": data, "at": number}


def moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def entry(at: float, what: Any) -> Entry:
    return Entry(at=at, what=what, call="call-1", run="r1", step="a", turn=1)


def call(number: int = 3, **fields: Any) -> dict[str, Any]:
    return {
        "id": UUID(int=number),
        "run_id": RUN,
        "agent_run_id": STEP,
        "attempt": 1,
        "turn": 1,
        "status": "closed",
        "cost_nano": 90,
        "hold_nano": 95,
        "reply": {"request_id": "call-1"},
        "error": None,
        "began": 3.1,
        "ended": 3.9,
        **fields,
    }


def attempt(number: int = 1, **fields: Any) -> dict[str, Any]:
    return {
        "number": number,
        "worker": "w@h",
        "outcome": "completed",
        "began": 3.0,
        "ended": 4.0,
    } | fields


@pytest.fixture
def evidence(tmp_path: Path) -> Evidence:
    """One run of one step that went well."""
    log = tmp_path / "w.log"
    log.write_text("ready\n")
    member = SimpleNamespace(name="w", cause="killed", ended_at=9.0, frozen=[], log=log)
    step = {
        **{"id": STEP, "step": "a", "kind": "agent", "parent_id": None, "uses_model": True},
        **{"status": "completed", "status_reason": "", "output": ANSWER, "cost_nano": 90},
        **{"run_id": RUN, "attempt": 1, "forgiven": 0, "added": None},
    }
    run = {
        **{
            "id": RUN,
            "tenant_id": RUN,
            "status": "completed",
            "status_reason": "",
            "cost_nano": 90,
        },
        **{"output": {"last": ANSWER}, "parent_agent_run_id": None},
        **{"batch_id": None, "metadata": {"marker": "r1"}, "created_at": moment(1.0)},
    }
    return Evidence(
        started=[Started(id=RUN, tenant_id=RUN, marker="r1", flow=FLOW)],
        accepted={},
        runs={RUN: run},
        agent_runs={RUN: [step]},
        attempts={STEP: [attempt()]},
        calls={STEP: [call()]},
        entries=defaultdict(list, {CALL: [{"kind": "call", "amount_nano": 90}]}),
        events={
            RUN: [
                event(0, "run.created"),
                event(1, "run.started"),
                event(2, "agent.queued", STEP),
                event(3, "agent.running", STEP),
                event(4, "agent.completed", STEP),
                event(5, "run.completed"),
            ]
        },
        approvals=[],
        batches=[],
        loads=[{"tenant_id": RUN, "in_flight": 0, "waiting": 0}],
        budgets=[BUDGET],
        places_taken=0,
        decided={},
        cancelled_batches=[],
        span=(0.0, 10.0),
        log=[entry(3.2, "asked"), entry(3.8, "answered")],
        members={"w@h": member},
        outages=[],
        leftovers=Leftovers(keys={"_kombu.binding.agents": "set"}, channels=[]),
        leaf=LEAF_FLOW,
    )


def broken(evidence: Evidence) -> list[str]:
    return [name for name, told in judge(evidence).items() if not told["ok"]]


def test_nothing_is_wrong_with_a_run_that_went_well(evidence: Evidence) -> None:
    assert broken(evidence) == []


def changed(table: str, key: UUID, **fields: Any) -> Callable[[Evidence], Evidence]:
    """The evidence with other values in the first row of a table."""

    def change(evidence: Evidence) -> Evidence:
        rows = getattr(evidence, table)
        row = rows[key] | fields if table == "runs" else [rows[key][0] | fields]
        return replace(evidence, **{table: {key: row}})

    return change


def set_to(name: str, value: Any) -> Callable[[Evidence], Evidence]:
    return lambda evidence: replace(evidence, **{name: value})


BREACHES = {
    "runs_end_right": changed("agent_runs", RUN, output={"route": "right", "said": "?"}),
    "answers_are_recorded": changed("calls", STEP, reply={"request_id": "call-9"}),
    "no_turn_is_paid_twice": set_to(
        "calls", {STEP: [call(), call(4, attempt=2, began=5.0, ended=5.5)]}
    ),
    "doubts_have_causes": lambda evidence: replace(
        evidence,
        entries={CALL: [{"kind": "in_doubt", "amount_nano": 90}]},
        members={"w@h": SimpleNamespace(**vars(evidence.members["w@h"]) | {"ended_at": 0.0})},
    ),
    "ledger_equals_calls": set_to("entries", {CALL: [{"kind": "call", "amount_nano": 91}]}),
    "transitions_are_legal": set_to(
        "events", {RUN: [event(0, "run.created"), event(1, "run.completed")]}
    ),
    "one_claim_at_a_time": set_to("attempts", {STEP: [attempt(), attempt(2, began=3.5)]}),
    "attempts_are_numbered": changed("attempts", STEP, number=2),
    "nothing_is_orphaned": changed("calls", STEP, status="open"),
    "deeds_are_kept": set_to("accepted", {(RUN, "pause"): 1}),
    "batches_are_whole": set_to("batches", [{"id": UUID(int=9), "size": 2}]),
    "clocks_do_not_matter": changed("runs", RUN, created_at=moment(3600.0)),
    "money_adds_up": set_to("budgets", [{**BUDGET, "held_nano": 7}]),
    "limits_are_given_back": set_to("places_taken", 1),
    "places_are_given_back": set_to("loads", [{"tenant_id": RUN, "in_flight": 1, "waiting": 0}]),
    "redis_is_clean": set_to("leftovers", Leftovers(keys={"chord": "set"}, channels=[])),
    "workers_die_of_faults_alone": lambda evidence: replace(
        evidence,
        members={
            "w@h": SimpleNamespace(**vars(evidence.members["w@h"]) | {"cause": "exit code 1"})
        },
    ),
}


@pytest.mark.parametrize("name", BREACHES)
def test_breach_is_noticed(evidence: Evidence, name: str) -> None:
    assert name in broken(BREACHES[name](evidence))


BY, STANDING = UUID(int=11), UUID(int=12)


def handed_out(evidence: Evidence, **fields: Any) -> Evidence:
    """With a step that was handed out by another, of which what stands for it has such fields."""
    step = evidence.agent_runs[RUN][0]
    plan = {"steps": [{"name": "a", "max_cost_nano": 100}]}
    added = {"number": 1, "awaited": {"turn": 1, "calls": {}}, "plan": plan, "depth": 1}
    rows = [
        {**step, "id": BY, "step": "by"},
        {**step, "id": STANDING, "parent_id": BY, "kind": "steps", "step": "by.1", "added": added}
        | fields,
        {**step, "step": "by.1.a", "parent_id": STANDING},
    ]
    tried = {**evidence.attempts, BY: [attempt(outcome="delegated"), attempt(2)]}
    return replace(evidence, agent_runs={RUN: rows}, attempts=defaultdict(list, tried))


def test_delegates_that_are_where_they_belong_are_right(evidence: Evidence) -> None:
    made = handed_out(evidence)

    assert [*delegates_belong(made), *depth_is_kept(made)] == []
    assert list(delegates_keep_their_budgets(replace(made, calls=evidence.calls))) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"parent_id": UUID(int=99)},
        {"step": "else.1"},
        {"id": UUID(int=98)},
    ],
)
def test_delegates_that_stand_elsewhere_are_noticed(evidence: Evidence, wrong: Any) -> None:
    assert list(delegates_belong(handed_out(evidence, **wrong)))


def test_delegation_that_no_attempt_made_is_noticed(evidence: Evidence) -> None:
    made = replace(handed_out(evidence), attempts={BY: [attempt()]})

    assert list(delegates_belong(made))


def test_delegate_that_cost_more_than_it_might_is_noticed(evidence: Evidence) -> None:
    made = handed_out(evidence)
    rows = [*made.agent_runs[RUN][:2], {**made.agent_runs[RUN][2], "cost_nano": 101}]

    assert list(delegates_keep_their_budgets(replace(made, agent_runs={RUN: rows})))
    dear = replace(made, calls=defaultdict(list, {STEP: [call(hold_nano=101)]}))
    assert list(delegates_keep_their_budgets(dear))


def test_delegate_that_is_deeper_than_it_says_is_noticed(evidence: Evidence) -> None:
    made = handed_out(evidence)
    above = {**made.agent_runs[RUN][0], "added": {"depth": 1}}

    rows = [above, *made.agent_runs[RUN][1:]]

    assert list(depth_is_kept(replace(made, agent_runs={RUN: rows})))


def asked(evidence: Evidence, **fields: Any) -> Evidence:
    """With a question that people approve, and that is as `fields` say."""
    vertices = (*FLOW.vertices, Vertex(name="ok", kind="approval"))
    run = replace(evidence.started[0], flow=replace(FLOW, vertices=vertices))
    told = event(9, "approval.decided", STEP, approval_id=str(UUID(int=7)))
    return replace(
        evidence,
        started=[run],
        approvals=[{"id": UUID(int=7), "run_id": RUN, "step": "ok", "status": "approved"} | fields],
        events={RUN: [*evidence.events[RUN], told]},
        decided={UUID(int=7): 1},
    )


def doubts(evidence: Evidence) -> list[str]:
    return list(approvals_are_decided_once(evidence))


def test_question_that_was_answered_as_people_say_is_right(evidence: Evidence) -> None:
    assert doubts(asked(evidence)) == []


@pytest.mark.parametrize("status", ["rejected", "expired", "withdrawn", "open"])
def test_question_that_was_answered_otherwise_is_noticed(evidence: Evidence, status: str) -> None:
    assert doubts(asked(evidence, status=status))


def test_answer_that_two_people_gave_is_noticed(evidence: Evidence) -> None:
    assert doubts(replace(asked(evidence), decided={UUID(int=7): 2}))


def test_error_in_a_workers_log_is_noticed(evidence: Evidence) -> None:
    evidence.members["w@h"].log.write_text('{"event": "Task x raised unexpected: Boom"}\n')

    assert broken(evidence) == ["workers_foresaw_everything"]


def test_recovery_counts_from_death_to_next_claim(evidence: Evidence) -> None:
    lost = [attempt(outcome="lost"), attempt(2, began=12.5, ended=13.0)]

    assert recovery_p95_seconds(replace(evidence, attempts={STEP: lost})) == 3.5
