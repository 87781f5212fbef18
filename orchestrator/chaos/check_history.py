"""Whether states, attempts and history keep to the rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, Final
from uuid import UUID

from orchestrator.chaos.evidence import Evidence
from orchestrator.chaos.oracle import COMPLETED
from orchestrator.core.state import (
    TERMINAL_AGENT_RUN,
    TERMINAL_RUN,
    AgentRunStatus,
    RunStatus,
    targets,
)

_A, _R = AgentRunStatus, RunStatus
# What does not name the state itself. Becoming ready is not told.
_RUN_EVENTS: Final = {
    "created": _R.PENDING,
    "started": _R.RUNNING,
    "retried": _R.RUNNING,
}
_AGENT_EVENTS: Final = {"recovered": _A.QUEUED}


def transitions_are_legal(evidence: Evidence) -> Iterator[str]:
    """The history of every run and agent run, replayed, keeps to the table."""
    for run_id, events in evidence.events.items():
        yield from _replayed(run_id, events, evidence)


def _replayed(run_id: UUID, events: Any, evidence: Evidence) -> Iterator[str]:
    run: RunStatus | None = None
    agents: dict[UUID, AgentRunStatus] = {}
    for event in events:
        kind, _, word = event["type"].partition(".")
        if event["type"] == "run.retried":
            # All that did not complete is pending once more.
            agents = {id: status for id, status in agents.items() if status is _A.COMPLETED}
        if word == "resumed":
            word = event["data"]["status"]
        if kind == "run" and (word in _RUN_EVENTS or word in set(_R)):
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
