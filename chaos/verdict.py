"""The invariants. Each looks at the evidence and tells what contradicts it."""

from __future__ import annotations

import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any, Final
from uuid import UUID

from chaos.evidence import Evidence, Row
from chaos.flows import asked_as, said
from chaos.oracle import COMPLETED, FAILED, Ending, ending, run_output
from chaos.traffic import Started
from orchestrator.core.state import (
    TERMINAL_AGENT_RUN,
    TERMINAL_RUN,
    AgentRunStatus,
    RunStatus,
    targets,
)
from orchestrator.services.sweep import MAX_LOST

Check = Callable[[Evidence], Iterator[str]]
_A, _R = AgentRunStatus, RunStatus
_SHOWN: Final = 5
# The broker's own notes of which queues there are.
_BINDINGS: Final = "_kombu.binding"
# A task that raised, a step that broke for the platform's sake, a sweep that did.
_UNFORESEEN: Final = re.compile(r"raised unexpected|agent_run_broke|sweep_failed.*Traceback")
# Between the moment of a fault and that in which its process feels it.
_SLACK_SECONDS: Final = 0.5
# A worker that was cut off may lose its leases up to so long after PostgreSQL is back.
_LEASE_SECONDS: Final = 6.0


def judge(evidence: Evidence) -> dict[str, dict[str, Any]]:
    return {name: _told(check, evidence) for name, check in CHECKS.items()}


def _told(check: Check, evidence: Evidence) -> dict[str, Any]:
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


def runs_end_right(evidence: Evidence) -> Iterator[str]:
    """Every run has ended, in the state and with the outputs that its graph demands."""
    for run in evidence.started:
        row = evidence.runs[run.id]
        name = f"{run.marker} ({run.flow.name}, {run.flow.strategy})"
        if row["status"] not in TERMINAL_RUN:
            yield f"{name} is {row['status']}"
            continue
        expected = ending(run.flow, run.marker, leaf=evidence.leaf, lost=_given_up(evidence, run))
        yield from _places_right(evidence, run, name)
        if _stopped(evidence, run) or run.flow.deadline:
            yield from _stopped_right(evidence, run, expected, name)
        elif expected.status == FAILED and run.flow.mode == "fail_fast":
            yield from _part_of(evidence, run, expected, name, status=FAILED)
        else:
            yield from _whole(evidence, run, expected, name)


def _places_right(evidence: Evidence, run: Started, name: str) -> Iterator[str]:
    """Items of maps and steps of loops answered what they were asked."""
    for row in evidence.agent_runs[run.id]:
        is_asked = row["parent_id"] and row["uses_model"] and row["status"] == COMPLETED
        if is_asked and row["output"]["said"] != said(run.marker, asked_as(row["step"])):
            yield f"{name}: {row['step']} gave {row['output']!r}"


def _given_up(evidence: Evidence, run: Started) -> frozenset[str]:
    return frozenset(
        row["step"] for row in evidence.agent_runs[run.id] if row["lost_count"] >= MAX_LOST
    )


def _stopped(evidence: Evidence, run: Started) -> bool:
    """Whether somebody had it cancelled, and nobody took it up again."""
    told = [row["type"] for row in evidence.events[run.id]]
    last = max((i for i, kind in enumerate(told) if kind == "run.retried"), default=-1)
    return any(
        row["type"] == "run.stopping" and row["data"]["status"] == "cancelled"
        for row in evidence.events[run.id][last + 1 :]
    )


def _stopped_right(evidence: Evidence, run: Started, expected: Ending, name: str) -> Iterator[str]:
    status = "cancelled" if _stopped(evidence, run) else FAILED
    yield from _part_of(evidence, run, expected, name, status=status)


def _part_of(
    evidence: Evidence, run: Started, expected: Ending, name: str, *, status: str
) -> Iterator[str]:
    """What ended by itself ended as it had to; the rest was called back."""
    row = evidence.runs[run.id]
    if row["status"] != status:
        yield f"{name} is {row['status']}, not {status}: {row['status_reason']}"
    for agent_run in evidence.steps(run):
        step, is_ended = agent_run["step"], agent_run["status"] in (COMPLETED, FAILED)
        if is_ended and agent_run["status"] != expected.steps[step]:
            yield f"{name}: {step} is {agent_run['status']}, not {expected.steps[step]}"
        if is_ended and agent_run["output"] != expected.outputs[step]:
            yield f"{name}: {step} gave {agent_run['output']!r}"


def _whole(evidence: Evidence, run: Started, expected: Ending, name: str) -> Iterator[str]:
    row = evidence.runs[run.id]
    if row["status"] != expected.status:
        yield f"{name} is {row['status']}, not {expected.status}: {row['status_reason']}"
    for agent_run in evidence.steps(run):
        step = agent_run["step"]
        if agent_run["status"] != expected.steps[step]:
            yield (
                f"{name}: {step} is {agent_run['status']}, not {expected.steps[step]}: "
                f"{agent_run['status_reason']}"
            )
        elif agent_run["output"] != expected.outputs[step]:
            yield f"{name}: {step} gave {agent_run['output']!r}, not {expected.outputs[step]!r}"
    if row["output"] != run_output(run.flow, expected):
        yield f"{name} gave {row['output']!r}"


def answers_are_recorded(evidence: Evidence) -> Iterator[str]:
    """Every answer of the provider belongs to a closed call or to one in doubt."""
    answered: dict[tuple[str, str], set[str]] = defaultdict(set)
    asked: Counter[tuple[str, str]] = Counter()
    for entry in evidence.log:
        asked[entry.run, entry.step] += entry.what == "asked"
        if entry.what == "answered":
            answered[entry.run, entry.step].add(entry.call)
    for run in evidence.started:
        for row in evidence.agent_runs[run.id]:
            calls, key = evidence.calls[row["id"]], (run.marker, asked_as(row["step"]))
            known = {c["reply"]["request_id"] for c in calls if c["status"] == "closed"}
            doubts = sum(call["status"] == "in_doubt" for call in calls)
            if len(answered[key] - known) > doubts:
                yield f"{key}: answers without a row: {sorted(answered[key] - known)}"
            if known - answered[key]:
                yield f"{key}: rows without an answer: {sorted(known - answered[key])}"
            if asked[key] > len(calls):
                yield f"{key}: {asked[key]} requests, but {len(calls)} calls on record"


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
        by_step = {
            asked_as(row["step"]): evidence.calls[row["id"]] for row in evidence.agent_runs[run.id]
        }
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


def transitions_are_legal(evidence: Evidence) -> Iterator[str]:
    """The history of every run and agent run, replayed, keeps to the table."""
    for run_id, events in evidence.events.items():
        yield from _replayed(run_id, events, evidence)


# What does not name the state itself. Becoming ready is not told.
_RUN_EVENTS: Final = {"created": _R.PENDING, "started": _R.RUNNING, "resumed": _R.RUNNING}
_AGENT_EVENTS: Final = {"recovered": _A.QUEUED}


def _replayed(run_id: UUID, events: Any, evidence: Evidence) -> Iterator[str]:
    run: RunStatus | None = None
    agents: dict[UUID, AgentRunStatus] = {}
    for event in events:
        kind, _, word = event["type"].partition(".")
        if event["type"] == "run.retried":
            run = _R.RUNNING
            # All that did not complete is pending once more.
            agents = {id: status for id, status in agents.items() if status is _A.COMPLETED}
        elif kind == "run" and (word in _RUN_EVENTS or word in set(_R)):
            status = _RUN_EVENTS.get(word) or _R(word)
            if run is not None and status not in targets(run):
                yield f"run {run_id} went from {run} to {status}"
            run = status
        elif kind == "agent" and (word in _AGENT_EVENTS or word in set(_A)):
            to = _AGENT_EVENTS.get(word) or _A(word)
            was = agents.get(event["agent_run_id"], _A.PENDING)
            if not _may_follow(was, to):
                yield f"agent run {event['agent_run_id']} went from {was} to {to}"
            agents[event["agent_run_id"]] = to
    yield from _history_matches(run_id, run, agents, evidence)


def _may_follow(was: AgentRunStatus, status: AgentRunStatus) -> bool:
    unseen = _A.READY in targets(was) and status in targets(_A.READY)
    return status in targets(was) or unseen


def _history_matches(
    run_id: UUID,
    run: RunStatus | None,
    agents: Mapping[UUID, AgentRunStatus],
    evidence: Evidence,
) -> Iterator[str]:
    if evidence.runs[run_id]["status"] != run:
        yield f"run {run_id} is {evidence.runs[run_id]['status']}, its history ends with {run}"
    for row in evidence.agent_runs[run_id]:
        if agents.get(row["id"], _A.PENDING) != row["status"]:
            yield (
                f"agent run {row['id']} ({row['step']}) is {row['status']}, "
                f"its history ends with {agents.get(row['id'])}"
            )


def one_claim_at_a_time(evidence: Evidence) -> Iterator[str]:
    """No step was at work under two live claims with both outcomes kept."""
    for agent_run, attempts in evidence.attempts.items():
        for one, following in pairwise(attempts):
            if one["ended"] > following["began"]:
                yield f"attempts {one['number']} and {following['number']} of {agent_run} overlap"
        if sum(row["outcome"] == COMPLETED for row in attempts) > 1:
            yield f"{agent_run} completed more than once"
    for agent_runs in evidence.agent_runs.values():
        for row in agent_runs:
            tried = evidence.attempts[row["id"]]
            if row["status"] == COMPLETED and tried and tried[-1]["outcome"] != COMPLETED:
                yield f"{row['id']} is completed, its last attempt {tried[-1]['outcome']}"


def attempts_are_numbered(evidence: Evidence) -> Iterator[str]:
    """Attempts count from 1 without gaps, up to what their agent run says."""
    for agent_runs in evidence.agent_runs.values():
        for row in agent_runs:
            numbers = [attempt["number"] for attempt in evidence.attempts[row["id"]]]
            if numbers != list(range(1, row["attempt"] + 1)):
                yield f"{row['id']} is at attempt {row['attempt']} and has {numbers}"


def nothing_is_orphaned(evidence: Evidence) -> Iterator[str]:
    """In a run that has ended no step is unsettled and no call open."""
    for run_id, agent_runs in evidence.agent_runs.items():
        if evidence.runs[run_id]["status"] not in TERMINAL_RUN:
            continue
        for row in agent_runs:
            if row["status"] not in TERMINAL_AGENT_RUN:
                yield f"{row['step']} of the ended run {run_id} is {row['status']}"
            for call in evidence.calls[row["id"]]:
                if call["status"] == "open":
                    yield f"call {call['id']} of the ended run {run_id} is open"


def deeds_are_kept(evidence: Evidence) -> Iterator[str]:
    """Whatever a service has confirmed is in the history, no oftener than it happened."""
    words = {"cancel": "stopping", "pause": "paused", "resume": "resumed", "retry": "retried"}
    for (run_id, what), count in evidence.accepted.items():
        told = sum(row["type"] == f"run.{words[what]}" for row in evidence.events[run_id])
        if told < count:
            yield f"{what} of run {run_id} was confirmed {count} times, {told} are on record"


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
            if _UNFORESEEN.search(line):
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
        transitions_are_legal,
        one_claim_at_a_time,
        attempts_are_numbered,
        nothing_is_orphaned,
        deeds_are_kept,
        redis_is_clean,
        workers_die_of_faults_alone,
        workers_foresaw_everything,
    )
}
