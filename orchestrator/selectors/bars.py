"""How an agent run spent its time, as the parts of a bar."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from orchestrator.core.state import AgentRunStatus
from orchestrator.models import AgentRun, Attempt

_Stretch = tuple[str, datetime, datetime]
# Outcomes of attempts that look like an agent run's state.
_ENDED = {
    "added_steps": AgentRunStatus.COMPLETED,
    "handed_over": "lost",
    "waited": AgentRunStatus.WAITING,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A part of a bar, in percent of the run's whole time."""

    kind: str
    left: float
    width: float
    seconds: float


def bar_of(
    agent_run: AgentRun,
    attempts: Sequence[Attempt],
    span: tuple[datetime, datetime],
    clock: datetime,
) -> tuple[Segment, ...]:
    """How it lay queued, was tried, and waited in between."""
    tries = tries_of(agent_run, attempts, clock)
    ended = agent_run.finished_at or clock
    parts: list[_Stretch] = []
    if agent_run.queued_at:
        parts.append(("queued", agent_run.queued_at, claimed_at(agent_run) or ended))
    at, before = agent_run.started_at, ""
    for kind, begin, end in tries:
        if at and at < begin:
            # Only a failed attempt is followed by a pause.
            parts.append(("queued" if before == "lost" else "waiting", at, begin))
        parts.append((kind, begin, end))
        at, before = end, kind
    if at and (agent_run.status == AgentRunStatus.WAITING or not tries):
        parts.append((agent_run.status, at, ended))
    return tuple(_segment(kind, begin, end, span) for kind, begin, end in parts if begin <= end)


def tries_of(
    agent_run: AgentRun, attempts: Sequence[Attempt], clock: datetime
) -> Sequence[_Stretch]:
    """When it was at work, and what came of it."""
    tries: list[_Stretch] = [
        (_ENDED.get(one.outcome, one.outcome), one.started_at, one.finished_at) for one in attempts
    ]
    if agent_run.status == AgentRunStatus.RUNNING and agent_run.attempt_started_at:
        tries.append((agent_run.status, agent_run.attempt_started_at, clock))
    return tries


def claimed_at(agent_run: AgentRun) -> datetime | None:
    """When it was taken from the queue in which it last lay."""
    claimed, queued = agent_run.attempt_started_at, agent_run.queued_at
    return claimed if claimed and queued and queued <= claimed else None


def _segment(kind: str, begin: datetime, end: datetime, span: tuple[datetime, datetime]) -> Segment:
    whole = max((span[1] - span[0]).total_seconds(), 0.001)
    left = 100 * (begin - span[0]).total_seconds() / whole
    left = min(max(left, 0.0), 99.5)
    width = 100 * (end - begin).total_seconds() / whole
    return Segment(
        kind=kind,
        left=round(left, 2),
        width=round(min(max(width, 0.5), 100 - left), 2),
        seconds=(end - begin).total_seconds(),
    )


def seconds_between(begin: datetime | None, end: datetime | None) -> float | None:
    return max((end - begin).total_seconds(), 0.0) if begin and end else None
