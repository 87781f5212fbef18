"""Whether calls, the provider's log and the ledger agree."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any, Final

from orchestrator.chaos.evidence import Evidence, Row
from orchestrator.chaos.flows import asked_as
from orchestrator.chaos.traffic import Started

# Between the moment of a fault and that in which its process feels it.
_SLACK_SECONDS: Final = 0.5
# A worker that was cut off may lose its leases up to so long after PostgreSQL is back.
_LEASE_SECONDS: Final = 6.0


def answers_are_recorded(evidence: Evidence) -> Iterator[str]:
    """Every answer of the provider belongs to a closed call or to one in doubt."""
    answered: dict[tuple[str, str], set[str]] = defaultdict(set)
    asked: Counter[tuple[str, str]] = Counter()
    for entry in evidence.log:
        asked[entry.run, entry.step] += entry.what == "asked"
        if entry.what == "answered":
            answered[entry.run, entry.step].add(entry.call)
    for run in evidence.started:
        for step, calls in _calls_by_step(evidence, run).items():
            key = (run.marker, step)
            known = {c["reply"]["request_id"] for c in calls if c["status"] == "closed"}
            doubts = sum(call["status"] == "in_doubt" for call in calls)
            if len(answered[key] - known) > doubts:
                yield f"{key}: answers without a row: {sorted(answered[key] - known)}"
            if known - answered[key]:
                yield f"{key}: rows without an answer: {sorted(known - answered[key])}"
            if asked[key] > len(calls):
                yield f"{key}: {asked[key]} requests, but {len(calls)} calls on record"


def _calls_by_step(evidence: Evidence, run: Started) -> dict[str, list[Row]]:
    """By what the provider was told of the step; what was handed out anew is the same to it."""
    found: dict[str, list[Row]] = defaultdict(list)
    for row in evidence.agent_runs[run.id]:
        found[asked_as(row["step"])] += evidence.calls[row["id"]]
    return found


def no_turn_is_paid_twice(evidence: Evidence) -> Iterator[str]:
    """No request was sent for a turn whose answer was on record."""
    markers = {run.id: run.marker for run in evidence.started}
    for agent_run, calls in evidence.calls.items():
        for closed in (call for call in calls if call["status"] == "closed"):
            for call in calls:
                is_same = call["turn"] == closed["turn"] and call is not closed
                if (
                    is_same
                    and call["began"] > closed["ended"]
                    and not _forgiven(evidence, closed, call)
                ):
                    yield (
                        f"{markers.get(closed['run_id'])} {agent_run}: attempt {call['attempt']} "
                        f"asked turn {call['turn']} again after attempt {closed['attempt']}"
                    )
    yield from _sent_late(evidence)


def _forgiven(evidence: Evidence, closed: Row, call: Row) -> bool:
    """Whether a person had the step tried anew in between."""
    return any(closed["ended"] < at < call["began"] for at in evidence.retried(closed["run_id"]))


def _sent_late(evidence: Evidence) -> Iterator[str]:
    """By the provider's own log: requests that no call can have sent that was open by then."""
    for run in evidence.started:
        by_step = _calls_by_step(evidence, run)
        for entry in evidence.log:
            if entry.run != run.marker or entry.what != "asked":
                continue
            calls = [call for call in by_step[entry.step] if call["turn"] == entry.turn]
            if not any(call["began"] <= entry.at + _SLACK_SECONDS for call in calls):
                yield f"{run.marker} {entry.step}: {entry.call} was sent before it was on record"


def doubts_have_causes(evidence: Evidence) -> Iterator[str]:
    """A call is in doubt only if it was in flight when its worker was killed, frozen or cut off."""
    for agent_run, calls in evidence.calls.items():
        attempts = {row["number"]: row for row in evidence.attempts[agent_run]}
        for call in calls:
            kinds = {entry["kind"] for entry in evidence.entries[call["id"]]}
            if "in_doubt" not in kinds:
                continue
            attempt = attempts.get(call["attempt"])
            if attempt is None or not _has_cause(evidence, call, attempt["worker"]):
                yield (
                    f"call {call['id']} of attempt {call['attempt']} at "
                    f"{attempt and attempt['worker']}: {call['error']}"
                )


def _has_cause(evidence: Evidence, call: Row, worker: str) -> bool:
    member = evidence.members.get(worker)
    stops = [row["at"] for row in evidence.events[call["run_id"]] if row["type"] == "run.stopping"]
    if call["error"] is not None:
        # Its worker lived and cut it short, because its run was to end or its lease was lost.
        return any(call["began"] - _SLACK_SECONDS < at for at in stops) or _was_cut_off(
            evidence, call, member
        )
    return (
        member is not None and member.ended_at > call["began"] - _SLACK_SECONDS
    ) or _was_cut_off(evidence, call, member)


def _was_cut_off(evidence: Evidence, call: Row, member: Any) -> bool:
    spans = [*evidence.outages, *(member.frozen if member else ())]
    return any(
        began - _SLACK_SECONDS < call["ended"] and call["began"] < ended + _LEASE_SECONDS
        for began, ended in spans
    )


def ledger_equals_calls(evidence: Evidence) -> Iterator[str]:
    """Each call has its lines, which add up to its cost, its agent run's and its run's."""
    for run_id, agent_runs in evidence.agent_runs.items():
        total = 0
        for row in agent_runs:
            calls = evidence.calls[row["id"]]
            cost = sum(call["cost_nano"] for call in calls) + evidence.cost_below(row)
            total += cost
            if row["cost_nano"] != cost:
                yield f"agent run {row['id']} cost {row['cost_nano']}, its calls {cost}"
            for call in calls:
                yield from _lines_of(evidence, call)
        if evidence.runs[run_id]["cost_nano"] != total:
            yield f"run {run_id} cost {evidence.runs[run_id]['cost_nano']}, its steps {total}"
    known = {call["id"] for calls in evidence.calls.values() for call in calls}
    for stray in evidence.entries.keys() - known:
        yield f"lines for an unknown call {stray}"


def _lines_of(evidence: Evidence, call: Row) -> Iterator[str]:
    lines = evidence.entries[call["id"]]
    kinds = sorted(line["kind"] for line in lines)
    if kinds not in (["call"], ["failed"], ["in_doubt"], ["correction", "in_doubt"]):
        yield f"call {call['id']} ({call['status']}) has lines {kinds}"
    charged = sum(line["amount_nano"] for line in lines)
    if charged != call["cost_nano"]:
        yield f"call {call['id']} cost {call['cost_nano']}, its lines say {charged}"


def money_adds_up(evidence: Evidence) -> Iterator[str]:
    """Budgets have spent what the ledger says, hold nothing any more, and were never overrun."""
    for budget in evidence.budgets:
        if budget["spent_nano"] != budget["ledger_nano"] or budget["held_nano"]:
            yield str(budget)
        elif budget["overrun_nano"]:
            yield f"{budget['tenant_id']}: overrun by {budget['overrun_nano']}"
    budgeted = {row["tenant_id"] for row in evidence.budgets if row["scope"] == "tenant"}
    for run in evidence.runs.values():
        if run["cost_nano"] and run["tenant_id"] not in budgeted:
            yield f"run {run['id']} spent {run['cost_nano']} past its tenant's budget"


def limits_are_given_back(evidence: Evidence) -> Iterator[str]:
    """No call has a place at the limiter any more."""
    if evidence.places_taken:
        yield f"{evidence.places_taken} places are taken"
