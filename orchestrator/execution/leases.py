"""Keeps the leases of the agent runs that this process works on."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

import structlog
from django.conf import settings
from psycopg import OperationalError
from psycopg_pool import PoolTimeout

from orchestrator.execution import engine_db

log = structlog.get_logger(__name__)

_RENEW = "SELECT * FROM muster_renew_leases(%s, %s::uuid[], %s::int[], %s::interval, %s::interval)"

# How long after its step's time a thread may still report, before it counts as hung.
GRACE = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Lease:
    """Held for one attempt.

    `lost` is set once the row is somebody else's: send nothing more. `stopping` is set once its
    run is to end: cut short what is under way, and report.
    """

    agent_run_id: UUID
    attempt: int
    lost: threading.Event = field(default_factory=threading.Event)
    stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def is_over(self) -> bool:
        return self.lost.is_set() or self.stopping.is_set()


class LeaseKeeper:
    """One thread that renews all leases of a worker process with one statement.

    It renews three times within a lease, so that two failed tries cost nothing. While the
    database is away leases run out in the rows, not here: the next renewal tells which
    attempts are still ours.
    """

    def __init__(self, worker: str, *, lease: timedelta) -> None:
        self._worker = worker
        self._lease = lease
        self._held: dict[UUID, Lease] = {}
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def holding(self, agent_run_id: UUID, attempt: int) -> Iterator[Lease]:
        lease = Lease(agent_run_id, attempt)
        with self._guard:
            self._held[agent_run_id] = lease
            self._start()
        try:
            yield lease
        finally:
            with self._guard:
                # A later attempt in this very process may have taken the place.
                if self._held.get(agent_run_id) is lease:
                    del self._held[agent_run_id]

    def stop(self) -> None:
        self._stop.set()

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._renew_for_ever, name="leases", daemon=True)
            self._thread.start()

    def _renew_for_ever(self) -> None:
        while not self._stop.wait(self._lease.total_seconds() / 3):
            try:
                self.renew()
            except (OperationalError, PoolTimeout) as error:
                log.warning("leases_not_renewed", error=type(error).__name__)
            except Exception:
                # Without this thread every longer step of the process would be lost.
                log.exception("leases_not_renewed")

    def renew(self) -> None:
        with self._guard:
            held = list(self._held.values())
        if not held:
            return
        renewed = engine_db.many(
            _RENEW,
            self._worker,
            [lease.agent_run_id for lease in held],
            [lease.attempt for lease in held],
            self._lease,
            GRACE,
            alias=engine_db.LEASES,
        )
        ours = {row["id"]: row["is_stopping"] for row in renewed}
        for lease in held:
            if lease.agent_run_id not in ours:
                lease.lost.set()
            elif ours[lease.agent_run_id]:
                lease.stopping.set()


def lease_length() -> timedelta:
    return timedelta(seconds=settings.MUSTER_LEASE_SECONDS)
