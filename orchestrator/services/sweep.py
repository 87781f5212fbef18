"""Finds what no message tells of: lost workers, lost messages, runs that nobody drives.

Every control worker runs it on a timer; an advisory lock lets one at a time through. It works
through the system role, in small batches, and mends by publishing hints.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from django.conf import settings
from psycopg import DataError, IntegrityError

from agents_app.services.memory import purge_expired as purge_memory
from orchestrator.core.hints import RunHints, hints_of
from orchestrator.core.spec import RetrySpec
from orchestrator.core.state import AgentRunStatus, RunStatus, WaitingReason
from orchestrator.dispatch.canvas import publish
from orchestrator.dispatch.live import nudge
from orchestrator.execution import approvals, engine_db
from orchestrator.execution.crashpoints import crash_here
from orchestrator.execution.engine_db import Row
from orchestrator.execution.errors import PlanUnreadableError
from orchestrator.execution.finishes import Finish, finish_all
from orchestrator.execution.versions import planned_step
from orchestrator.services.agent_runs import next_pause
from orchestrator.services.alone import Work, is_alone
from tenants.services.purge import purge_expired

log = structlog.get_logger(__name__)

MAX_LOST = 5
BATCH = 500
_PURGE_EVERY_SECONDS = 3600
# How often a control worker looks, in its memory, whose wait is over.
WAKE_SECONDS = 0.02

_FIND = "SELECT * FROM muster_sweep_find(%s, %s)"
_AGAIN = "SELECT * FROM muster_publish_again(%s::uuid[])"
_WAKE = "SELECT * FROM muster_wake(%s, %s, %s::uuid[])"
_ENDS = "SELECT * FROM muster_sweep_ends(%s)"
_STOP = "SELECT muster_stop_run(%s, %s, %s, %s)"
_GIVE_UP_ASKING = "SELECT muster_give_up_asking(%s, %s, %s)"
_TURNS = "SELECT * FROM muster_sweep_turns(%s)"
_PAUSED = "SELECT * FROM muster_sweep_paused(%s)"
_NEXT_TURNS = "SELECT * FROM muster_next_turns(%s)"
_RUNS = "SELECT * FROM muster_sweep_runs(%s)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """How much was mended; all zero when somebody else was sweeping."""

    recovered: int = 0
    republished: int = 0
    woken: int = 0
    stopped: int = 0
    nudged: int = 0
    begun: int = 0
    called_back: int = 0


def sweep(*, coming: Callable[[list[Row]], object] | None = None) -> Swept:
    """One pass. Safe at any time, any number of times, from anywhere.

    `coming` is told of the waits that will be over before the next pass.
    """
    ahead = timedelta(seconds=2 * settings.MUSTER_SWEEP_SECONDS if coming else 0)
    found: dict[str, list[Row]] = {}
    for row in _find(Work.SWEEP_STEPS, _FIND, ahead):
        found.setdefault(row["what"], []).append(row)
    soon = found.pop("soon", [])
    if coming:
        coming(soon)
    swept = Swept(
        recovered=_part(_recover, [row for what in _GONE for row in found.get(what, [])]),
        republished=_part(_publish_again, found.get("unheard", [])),
        woken=_part(_end_waits, found.get("due", [])),
        stopped=_part(_stop, _find(Work.SWEEP_ENDS, _ENDS)),
        nudged=_part(_advance, _find(Work.SWEEP_RUNS, _RUNS)),
        begun=_part(_take_turns, _find(Work.SWEEP_TURNS, _TURNS)),
        called_back=len(_find(Work.SWEEP_PAUSED, _PAUSED)),
    )
    _tell_listeners([row for rows in found.values() for row in rows])
    _purge_now_and_then()
    if swept != Swept():
        log.info("swept", **asdict(swept))
    return swept


class Sweeper:
    """Sweeps, and has attempts go on at the moment they may, which the pass before has seen coming.

    A limit keeps the turn of one who waits for it only a moment beyond the time that it told.
    """

    def __init__(self) -> None:
        self._coming: list[tuple[float, Row]] = []

    def sweep(self) -> None:
        sweep(coming=self._expect)

    def _expect(self, soon: Iterable[Row]) -> None:
        now = time.monotonic()
        goes_on = (row for row in soon if row["waiting_for"] in _GOES_ON)
        self._coming = [(now + row["due_in"], row) for row in goes_on]

    def wake(self) -> None:
        """To be called every few milliseconds, beside the passes."""
        now, coming = time.monotonic(), self._coming
        if any(due <= now for due, _ in coming):
            self._coming = [(due, row) for due, row in coming if due > now]
            over = [row for due, row in coming if due <= now]
            _wake(over)
            _tell_listeners(over)


def _tell_listeners(rows: Iterable[Row]) -> None:
    for run_id in {row["run_id"] for row in rows}:
        nudge(run_id)


def _find(work: Work, query: str, *more: object) -> list[Row]:
    """What one query finds, unless somebody else is looking for it just now."""
    try:
        with engine_db.transaction(alias="system") as connection:
            if not is_alone(connection, work):
                return []
            return engine_db.rows(connection, query, [BATCH, *more])
    except (DataError, IntegrityError):
        log.exception("sweep_failed", part=work.name)
        return []


def _part(mend: Callable[[list[Row]], int], found: list[Row]) -> int:
    """How much was mended; one bad row stops one part only."""
    try:
        return mend(found)
    except (DataError, IntegrityError):
        log.exception("sweep_failed", part=mend.__name__)
        return 0


def _recover(expired: list[Row]) -> int:
    """Attempts that nobody works on any more: tried again, or failed."""
    return _finish([_GONE[row["what"]](row) for row in expired])


def _lost(row: Row) -> Finish:
    """The worker is gone: the step goes to another at once, unless it seems to kill them all."""
    error = {
        "code": "worker_lost",
        "message": f"Worker {row['worker']} stopped renewing its lease.",
    }
    status = AgentRunStatus.QUEUED
    if row["is_stopping"]:
        status = AgentRunStatus.CANCELLED
    elif row["deaths"] + 1 >= MAX_LOST:
        status = AgentRunStatus.FAILED
    return _finish_of(row, status=status, error=error)


def _left(row: Row) -> Finish:
    """The worker was told to end, which says nothing of the step, however often it happens."""
    error = {
        "code": "worker_left",
        "message": f"Worker {row['worker']} was told to end and handed the step over.",
    }
    status = AgentRunStatus.CANCELLED if row["is_stopping"] else AgentRunStatus.QUEUED
    return _finish_of(row, status=status, error=error)


def _late(row: Row) -> Finish:
    """The thread hangs, or its worker died when the step's time was nearly over."""
    error = {
        "code": "timeout",
        "message": f"The step did not end within its {row['timeout_seconds']} s.",
        "retryable": True,
    }
    if row["is_stopping"]:
        return _finish_of(row, status=AgentRunStatus.CANCELLED, error=error)
    again_in = next_pause(_retry_of(row), failures=row["failures"] + 1)
    status = AgentRunStatus.FAILED if again_in is None else AgentRunStatus.WAITING
    return _finish_of(row, status=status, error=error, again_in=again_in)


_GONE: dict[str, Callable[[Row], Finish]] = {"lost": _lost, "late": _late, "left": _left}


def _retry_of(row: Row) -> RetrySpec | None:
    try:
        where = (row["tenant_id"], row["version_id"], row["step"], row["added_by"])
        return planned_step(*where).retry
    except PlanUnreadableError:
        return None


def _finish_of(row: Row, **outcome: Any) -> Finish:
    error = outcome.get("error")
    return Finish(
        tenant_id=row["tenant_id"],
        agent_run_id=row["agent_run_id"],
        attempt=row["attempt"],
        reason=str(error["message"]) if error else "",
        **outcome,
    )


def _finish(outcomes: list[Finish]) -> int:
    """How many still were to be ended so; what they lead to is published."""
    by_tenant: dict[tuple[UUID, AgentRunStatus], list[Finish]] = {}
    for outcome in outcomes:
        by_tenant.setdefault((outcome.tenant_id, outcome.ended), []).append(outcome)
    counted = 0
    for of_tenant in by_tenant.values():
        for finished in finish_all(of_tenant):
            if finished:
                counted += 1
                crash_here("in_sweep")
                publish(finished.hints)
    return counted


def _publish_again(unheard: list[Row]) -> int:
    if not unheard:
        return 0
    ids = [row["agent_run_id"] for row in unheard]
    by_tenant: dict[UUID, list[Row]] = {}
    again = engine_db.many(_AGAIN, ids, alias="system")
    crash_here("in_sweep")
    for row in again:
        by_tenant.setdefault(row["tenant_id"], []).append({**row, "what": "queued"})
    for tenant_id, rows in by_tenant.items():
        publish(hints_of(tenant_id, rows))
    return len(again)


_GOES_ON = frozenset(
    {
        WaitingReason.RETRY,
        WaitingReason.RATE_LIMITED,
        WaitingReason.BUDGET,
        WaitingReason.DELEGATION,
        WaitingReason.BATCH,
    }
)


def _end_waits(due: list[Row]) -> int:
    """Attempts go on; a delay is over, and its step completed; nobody decided in time."""
    goes_on = [row for row in due if row["waiting_for"] in _GOES_ON]
    over = [row for row in due if row["waiting_for"] == WaitingReason.DELAY]
    _wake(goes_on)
    delayed = _finish(
        [
            _finish_of(row, status=AgentRunStatus.COMPLETED, ended=AgentRunStatus.WAITING)
            for row in over
        ]
    )
    return len(goes_on) + delayed + _expire(due)


def _wake(due: list[Row]) -> None:
    by_run: dict[tuple[UUID, UUID], list[UUID]] = {}
    for row in due:
        by_run.setdefault((row["tenant_id"], row["run_id"]), []).append(row["agent_run_id"])
    for (tenant_id, run_id), ids in by_run.items():
        publish(hints_of(tenant_id, engine_db.many(_WAKE, tenant_id, run_id, ids)))


def _expire(due: list[Row]) -> int:
    expired = 0
    for row in due:
        if row["waiting_for"] == WaitingReason.APPROVAL:
            hints = approvals.expire(row["tenant_id"], row["agent_run_id"])
            expired += hints is not None
            publish(hints or ())
    return expired


_WHY = {
    "deadline": (RunStatus.FAILED, "It did not end before its deadline"),
    "suspended": (RunStatus.CANCELLED, "The tenant was suspended"),
}
_UNANSWERED = "Nobody answered in time whether it may use more of what it may cost"


def _stop(ending: list[Row]) -> int:
    for row in ending:
        if row["why"] == "unanswered":
            engine_db.one(_GIVE_UP_ASKING, row["tenant_id"], row["run_id"], _UNANSWERED)
        else:
            engine_db.one(_STOP, row["tenant_id"], row["run_id"], *_WHY[row["why"]])
    return _advance(ending)


def _take_turns(tenants: list[Row]) -> int:
    begun = 0
    for tenant_id in (row["tenant_id"] for row in tenants):
        hints = hints_of(tenant_id, engine_db.many(_NEXT_TURNS, tenant_id))
        publish(hints)
        begun += len(hints)
    return begun


def _advance(runs: list[Row]) -> int:
    publish(
        RunHints(tenant_id=row["tenant_id"], run_id=row["run_id"], advance=True) for row in runs
    )
    return len(runs)


def _purge_now_and_then() -> None:
    """Once an hour a process, in small portions: what has expired and nobody asks for any more."""
    if time.monotonic() >= _purging.due:
        removed = purge_expired() + purge_memory()
        _purging.due = time.monotonic() + (0 if removed else _PURGE_EVERY_SECONDS)


@dataclass(slots=True)
class _Purging:
    due: float = 0.0


_purging = _Purging()
