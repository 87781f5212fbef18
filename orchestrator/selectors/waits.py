"""Why agent runs wait: what holds each of them, since when, and until about when."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from orchestrator.core.places import root_of
from orchestrator.core.state import AgentRunStatus, WaitingReason
from orchestrator.models import AgentRun, ReadyAgentRun

_A, _W = AgentRunStatus, WaitingReason
# What holds an agent run, in words; a limit or a budget has a name of its own.
WAITS_FOR: Final[Mapping[str, str]] = {
    _W.RATE_LIMITED: "a rate limit",
    _W.BUDGET: "money in its budget",
    _W.RETRY: "its next attempt",
    _W.APPROVAL: "a person's decision",
    _W.DELAY: "its time",
    _W.PAUSED: "its run to be resumed",
    _W.WORKER: "a free worker",
    _W.TENANT_SHARE: "a place in the tenant's share of the workers",
    _W.MAX_PARALLEL: "a place among the agents of its run",
}
# Those that wait without being `waiting`: they are due, and somebody else is before them.
DUE: Final = frozenset({_A.READY, _A.QUEUED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """`gate` names what holds it; `until` is when it goes on by itself, None if nobody knows."""

    reason: str
    gate: str
    since: datetime | None
    until: datetime | None

    @property
    def is_due(self) -> bool:
        """Whether it goes on as soon as others make room."""
        return self.reason in {_W.WORKER, _W.TENANT_SHARE, _W.MAX_PARALLEL}


def waits_of(agent_runs: Iterable[AgentRun]) -> dict[UUID, Wait]:
    """What holds those of a run's agent runs that wait, by their ids; one query for all."""
    rows = list(agent_runs)
    lanes = _lanes([row for row in rows if row.status == _A.READY])
    found = ((row.id, _wait_of(row, lanes.get(row.id))) for row in rows)
    return {id: wait for id, wait in found if wait is not None}


def _lanes(ready: Sequence[AgentRun]) -> dict[UUID, UUID]:
    """In which lane each lies: its run's, its tenant's, or its map's."""
    if not ready:
        return {}
    rows = ReadyAgentRun.objects.filter(
        run_id__in={row.run_id for row in ready}, agent_run_id__in=[row.id for row in ready]
    )
    return dict(rows.values_list("agent_run_id", "lane"))


def _wait_of(row: AgentRun, lane: UUID | None) -> Wait | None:
    match row.status:
        case _A.WAITING:
            gate = row.waits_on or WAITS_FOR[row.waiting_for]
            since = row.waiting_since
            if row.waiting_for in {_W.APPROVAL, _W.DELAY}:
                since = row.started_at
            return Wait(reason=row.waiting_for, gate=gate, since=since, until=row.due_at)
        case _A.QUEUED:
            return _due(_W.WORKER, since=row.queued_at)
        case _A.READY if lane == row.tenant_id:
            return _due(_W.TENANT_SHARE)
        case _A.READY if row.parent_id is not None and lane == row.parent_id:
            of_map = f"a place among the items of `{root_of(row.step)}`"
            return Wait(reason=_W.MAX_PARALLEL, gate=of_map, since=None, until=None)
        case _A.READY:
            return _due(_W.MAX_PARALLEL)
    return None


def due_together(status: str, *, is_for_share: bool) -> Wait:
    """What holds several agent runs that are due, some of which may wait for the tenant's share."""
    if status == _A.QUEUED:
        return _due(_W.WORKER)
    return _due(_W.TENANT_SHARE if is_for_share else _W.MAX_PARALLEL)


def _due(reason: WaitingReason, *, since: datetime | None = None) -> Wait:
    return Wait(reason=reason, gate=WAITS_FOR[reason], since=since, until=None)
