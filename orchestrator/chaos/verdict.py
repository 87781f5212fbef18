"""The invariants. Each looks at the evidence and tells what contradicts it."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, Final, TypeVar

from orchestrator.chaos.check_calls import (
    answers_are_recorded,
    doubts_have_causes,
    ledger_equals_calls,
    limits_are_given_back,
    money_adds_up,
    no_turn_is_paid_twice,
)
from orchestrator.chaos.check_delegation import (
    delegates_belong,
    delegates_keep_their_budgets,
    depth_is_kept,
)
from orchestrator.chaos.check_endings import runs_end_right
from orchestrator.chaos.check_history import (
    attempts_are_numbered,
    deeds_are_kept,
    nothing_is_orphaned,
    one_claim_at_a_time,
    transitions_are_legal,
)
from orchestrator.chaos.check_people import (
    approvals_are_decided_once,
    batches_are_whole,
    clocks_do_not_matter,
)
from orchestrator.chaos.evidence import Evidence

T = TypeVar("T")
Check = Callable[[Evidence], Iterator[str]]
_SHOWN: Final = 5
# The broker's own notes of which queues there are.
_BINDINGS: Final = "_kombu.binding"
# A task that raised, a step that broke for the platform's sake, a sweep that did, a wrong count.
UNFORESEEN: Final = re.compile(
    r"raised unexpected|agent_run_broke|periodic_work_failed.*Traceback|sweep_failed.*Traceback"
)


def judge(evidence: Evidence) -> dict[str, dict[str, Any]]:
    return {name: told(check, evidence) for name, check in CHECKS.items()}


def told(check: Callable[[T], Iterator[str]], evidence: T) -> dict[str, Any]:
    problems = list(check(evidence))
    shown = "; ".join(problems[:_SHOWN]) or (check.__doc__ or "").split("\n")[0]
    more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return {"ok": not problems, "detail": shown + more}


def recovery_p95_seconds(evidence: Evidence) -> float:
    """From the death of a worker to the next claim of what it was at work on."""
    waits = sorted(_recoveries(evidence))
    if len(waits) < 2:
        return round(sum(waits), 2)
    return round(statistics.quantiles(waits, n=20, method="inclusive")[-1], 2)


def _recoveries(evidence: Evidence) -> Iterator[float]:
    for attempts in evidence.attempts.values():
        for lost, following in pairwise(attempts):
            member = evidence.members.get(lost["worker"])
            if lost["outcome"] == "lost" and member and lost["began"] < member.ended_at:
                yield following["began"] - member.ended_at


def places_are_given_back(evidence: Evidence) -> Iterator[str]:
    """No tenant has a place among the workers any more, or waits for one."""
    for row in evidence.loads:
        if row["in_flight"] or row["waiting"]:
            yield f"{row['tenant_id']}: {row['in_flight']} in flight, {row['waiting']} waiting"


def redis_is_clean(evidence: Evidence) -> Iterator[str]:
    """Redis keeps no key without an expiry but the broker's bindings, and no subscription."""
    for key, kind in evidence.leftovers.keys.items():
        if not key.startswith(_BINDINGS):
            yield f"{kind} {key} never expires"
    for channel in evidence.leftovers.channels:
        yield f"somebody listens to {channel}"


def workers_foresaw_everything(evidence: Evidence) -> Iterator[str]:
    """No worker logged an error that it had not foreseen."""
    for member in evidence.members.values():
        for line in member.log.read_text(errors="replace").splitlines():
            if UNFORESEEN.search(line):
                yield f"{member.name}: {line[:500]}"


def workers_die_of_faults_alone(evidence: Evidence) -> Iterator[str]:
    """No worker ended by itself."""
    for member in evidence.members.values():
        if member.cause.startswith("exit code"):
            yield f"{member.name}: {member.cause}, see {member.log}"


CHECKS: Final[dict[str, Check]] = {
    check.__name__: check
    for check in (
        runs_end_right,
        answers_are_recorded,
        no_turn_is_paid_twice,
        doubts_have_causes,
        ledger_equals_calls,
        money_adds_up,
        limits_are_given_back,
        transitions_are_legal,
        one_claim_at_a_time,
        attempts_are_numbered,
        nothing_is_orphaned,
        deeds_are_kept,
        delegates_belong,
        delegates_keep_their_budgets,
        depth_is_kept,
        approvals_are_decided_once,
        batches_are_whole,
        clocks_do_not_matter,
        places_are_given_back,
        redis_is_clean,
        workers_die_of_faults_alone,
        workers_foresaw_everything,
    )
}
