"""Why agent runs wait: what holds each of them, since when, and until about when."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from django.db.models import Case, F, When
from django.db.models.functions import Coalesce

from orchestrator.core.places import root_of
from orchestrator.core.state import AgentRunStatus, RunStatus, RunWait, WaitingReason
from orchestrator.models import AgentRun, ReadyAgentRun, Run
from tenants.kernel.clock import now

_A, _W = AgentRunStatus, WaitingReason
# What holds an agent run, in words; a limit or a budget has a name of its own.
WAITS_FOR: Final[Mapping[str, str]] = {
    _W.RATE_LIMITED: "a rate limit",
    _W.BUDGET: "money in its budget",
    _W.RETRY: "its next attempt",
    _W.APPROVAL: "a person's decision",
    _W.DELAY: "its time",
    _W.DELEGATION: "the steps that it has delegated",
    _W.BATCH: "the answer of a batch",
    _W.PAUSED: "its run to be resumed",
    _W.WORKER: "a free worker",
    _W.TENANT_SHARE: "a place in the tenant's share of the workers",
    _W.MAX_PARALLEL: "a place among the agents of its run",
    RunWait.TURN: "its turn: as many runs are under way as may be",
    RunWait.CONTROL_WORKER: "a control worker to begin it",
}
# Since when a waiting agent run waits: at its gate, however often it has asked there; for a person
# or a time; or for its next attempt.
SINCE: Final = Case(
    When(waiting_for__in=(_W.APPROVAL, _W.DELAY), then=F("started_at")),
    default=Coalesce("waiting_since", "updated_at"),
)
# Those that wait without being `waiting`: they are due, and somebody else is before them.
DUE: Final = frozenset({_A.READY, _A.QUEUED})
_HELD: Final = DUE | {_A.WAITING}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """`gate` names what holds it; `until` is when it goes on by itself, None if nobody knows."""

    reason: str
    gate: str
    since: datetime | None
    until: datetime | None

    @property
    def is_due(self) -> bool:
        """Whether it goes on as soon as others make room, so that no moment can be told."""
        return self.reason in {_W.WORKER, _W.TENANT_SHARE, _W.MAX_PARALLEL}


def waits_of(agent_runs: Iterable[AgentRun]) -> dict[UUID, Wait]:
    """What holds those of a run's agent runs that wait, by their ids; two queries for all."""
    rows = [row for row in agent_runs if row.status in _HELD]
    if not rows:
        return {}
    run_ids = {row.run_id for row in rows}
    paused = Run.objects.filter(id__in=run_ids, status=RunStatus.PAUSED)
    stands_still = set(paused.values_list("id", flat=True))
    places = _places([row for row in rows if row.status == _A.READY])
    return {
        row.id: _wait_of(row, places.get(row.id), is_paused=row.run_id in stands_still)
        for row in rows
    }


def wait_of_run(run: Run) -> Wait | None:
    """What holds a run as a whole."""
    if run.status == RunStatus.PAUSED:
        gate = "somebody to resume it"
        return Wait(reason=_W.PAUSED, gate=gate, since=run.updated_at, until=None)
    if run.status == RunStatus.PENDING and run.waits_for_turn:
        turn = RunWait.TURN
        return Wait(reason=turn, gate=WAITS_FOR[turn], since=run.created_at, until=None)
    return None


@dataclass(frozen=True, slots=True)
class _Place:
    lane: UUID
    since: datetime


def _places(ready: Sequence[AgentRun]) -> dict[UUID, _Place]:
    """In which lane each lies: its run's, its tenant's, or its map's."""
    if not ready:
        return {}
    rows = ReadyAgentRun.objects.filter(
        run_id__in={row.run_id for row in ready}, agent_run_id__in=[row.id for row in ready]
    )
    found = rows.values_list("agent_run_id", "lane", "since")
    return {id: _Place(lane, since) for id, lane, since in found}


def _wait_of(row: AgentRun, place: _Place | None, *, is_paused: bool) -> Wait:
    if row.status == _A.WAITING:
        return _wait_in_state(row, is_paused=is_paused)
    if row.status == _A.QUEUED:
        return _due(_W.WORKER, since=row.queued_at)
    since = place.since if place else None
    if is_paused:
        return _due(_W.PAUSED, since=since)
    if place and place.lane == row.tenant_id:
        return _due(_W.TENANT_SHARE, since=since)
    if place and place.lane == row.parent_id:
        of_map = f"a place among the items of `{root_of(row.step)}`"
        return Wait(reason=_W.MAX_PARALLEL, gate=of_map, since=since, until=None)
    return _due(_W.MAX_PARALLEL, since=since)


def _wait_in_state(row: AgentRun, *, is_paused: bool) -> Wait:
    is_at_gate = row.waiting_for not in {_W.APPROVAL, _W.DELAY}
    since = (row.waiting_since or row.updated_at) if is_at_gate else row.started_at
    # What it waited for is over, and nobody wakes it before its run goes on.
    if is_paused and row.waiting_for != _W.APPROVAL and row.due_at and row.due_at < now():
        return _due(_W.PAUSED, since=since)
    gate = row.waits_on or WAITS_FOR[row.waiting_for]
    return Wait(reason=row.waiting_for, gate=gate, since=since, until=row.due_at)


def due_together(status: str, *, is_for_share: bool) -> Wait:
    """What holds several agent runs that are due, some of which may wait for the tenant's share."""
    if status == _A.QUEUED:
        return _due(_W.WORKER)
    return _due(_W.TENANT_SHARE if is_for_share else _W.MAX_PARALLEL)


def _due(reason: WaitingReason, *, since: datetime | None = None) -> Wait:
    return Wait(reason=reason, gate=WAITS_FOR[reason], since=since, until=None)
