"""Finds what no message tells of: lost workers, lost messages, runs that nobody drives.

Every control worker runs it on a timer; an advisory lock lets one at a time through. It works
through the system role, in small batches, and mends by publishing hints.
"""

import threading
import time
from dataclasses import asdict, dataclass
from uuid import UUID

import structlog
from django.conf import settings
from psycopg import DataError, OperationalError
from psycopg_pool import PoolTimeout

from orchestrator.dispatch.canvas import AgentHint, publish_advance, publish_agents
from orchestrator.execution import engine_db
from orchestrator.execution.engine_db import Row
from tenants.services.purge import purge_expired

log = structlog.get_logger(__name__)

MAX_LOST = 5
BATCH = 500
# Any number that nothing else in this database locks.
_LOCK = 0x6D757374

_PURGE_EVERY_SECONDS = 3600

_TRY_LOCK = "SELECT pg_try_advisory_xact_lock(%s) AS won"
_LEASES = "SELECT * FROM muster_sweep_leases(%s, %s)"
_MESSAGES = "SELECT * FROM muster_sweep_messages(%s)"
_RUNS = "SELECT * FROM muster_sweep_runs(%s)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """How much was mended; all zero when somebody else was sweeping."""

    recovered: int = 0
    republished: int = 0
    nudged: int = 0


def sweep() -> Swept:
    """One pass. Safe at any time, any number of times, from anywhere."""
    lost = _part(0, _LEASES, [MAX_LOST, BATCH])
    _publish_agents([row for row in lost if row["status"] == "queued"])
    for row in lost:
        if row["advance"]:
            publish_advance(row["tenant_id"], row["run_id"])
    unheard = _part(1, _MESSAGES, [BATCH])
    _publish_agents(unheard)
    stalled = _part(2, _RUNS, [BATCH])
    for row in stalled:
        publish_advance(row["tenant_id"], row["run_id"])
    _purge_now_and_then()
    swept = Swept(recovered=len(lost), republished=len(unheard), nudged=len(stalled))
    if swept != Swept():
        log.info("swept", **asdict(swept))
    return swept


def _purge_now_and_then() -> None:
    """Once an hour a process, in small portions: what has expired and nobody asks for any more."""
    if time.monotonic() >= _purging.due:
        removed = purge_expired()
        _purging.due = time.monotonic() + (0 if removed else _PURGE_EVERY_SECONDS)


def _part(number: int, query: str, arguments: list[int]) -> list[Row]:
    """What one query mends, in a transaction of its own: one bad row stops one part only."""
    try:
        with engine_db.transaction(alias="system") as connection:
            won = engine_db.rows(connection, _TRY_LOCK, [_LOCK + number])[0]["won"]
            return engine_db.rows(connection, query, arguments) if won else []
    except DataError:
        log.exception("sweep_failed", part=number)
        return []


def _publish_agents(rows: list[Row]) -> None:
    by_run: dict[tuple[UUID, UUID], list[AgentHint]] = {}
    for row in rows:
        hint = AgentHint(row["agent_run_id"], row["priority"])
        by_run.setdefault((row["tenant_id"], row["run_id"]), []).append(hint)
    for (tenant_id, run_id), hints in by_run.items():
        publish_agents(tenant_id, run_id, hints)


@dataclass(slots=True)
class _Purging:
    due: float = 0.0


_purging = _Purging()


class Sweeper:
    """Sweeps on a timer, in a thread of a control worker."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sweep_for_ever, name="sweeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def _sweep_for_ever(self) -> None:
        while not self._stop.wait(settings.MUSTER_SWEEP_SECONDS):
            try:
                sweep()
            except (OperationalError, PoolTimeout) as error:
                log.warning("sweep_failed", error=type(error).__name__)
            except Exception:
                # The sweeper is the last net: it must outlive what it did not foresee.
                log.exception("sweep_failed")
