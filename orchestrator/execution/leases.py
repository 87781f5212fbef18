"""Keeps the leases of the agent runs that this process works on."""

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from uuid import UUID

import structlog
from django.conf import settings
from psycopg import OperationalError
from psycopg_pool import PoolTimeout

from orchestrator.execution import engine_db
from orchestrator.limits import limits

log = structlog.get_logger(__name__)

_RENEW = "SELECT * FROM muster_renew_leases(%s, %s::uuid[], %s::int[], %s::interval, %s::interval)"

# How long after its step's time a thread may still report, before it counts as hung.
GRACE = timedelta(seconds=5)


@dataclass(slots=True, eq=False)
class Lease:
    """Held for one attempt.

    `lost` is set once the row is somebody else's: send nothing more. `stopping` is set once its
    run is to end: cut short what is under way, and report.
    """

    agent_run_id: UUID
    attempt: int
    lost: threading.Event = field(default_factory=threading.Event)
    stopping: threading.Event = field(default_factory=threading.Event)
    calls: set[UUID] = field(default_factory=set, init=False)  # its model calls under way
    _due: float = field(default=math.inf, init=False)

    @property
    def is_over(self) -> bool:
        return self.lost.is_set() or self.stopping.is_set()

    @contextmanager
    def calling(self, call_id: UUID) -> Iterator[None]:
        """A model call whose place at the limiter is kept as long as the lease is."""
        self.calls.add(call_id)
        try:
            yield
        finally:
            self.calls.discard(call_id)

    def expect_end(self, *, within_seconds: float) -> None:
        """Whoever still holds the lease some time after that, although it is lost, hangs."""
        self._due = time.monotonic() + within_seconds + GRACE.total_seconds()

    @property
    def seconds_left(self) -> float:
        """Of its step's time."""
        return self._due - GRACE.total_seconds() - time.monotonic()

    def lose(self) -> None:
        """A holder that notices at its next look does not hang, so it is given time from now on."""
        self._due = max(self._due, time.monotonic() + GRACE.total_seconds())
        self.lost.set()

    @property
    def is_hung(self) -> bool:
        return self.lost.is_set() and time.monotonic() > self._due


class LeaseKeeper:
    """One thread that renews all leases of a worker process with one statement.

    It renews three times within a lease, so that two failed tries cost nothing. While the
    database is away leases run out in the rows, not here: the next renewal tells which
    attempts are still ours.
    """

    def __init__(self, worker: str, *, lease: timedelta) -> None:
        self._worker = worker
        self._lease = lease
        # By attempt too: while one hangs, this very process may work on the next.
        self._held: dict[tuple[UUID, int], Lease] = {}
        self._guard = threading.Lock()
        self._renewing = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def holding(self, agent_run_id: UUID, attempt: int) -> Iterator[Lease]:
        lease = Lease(agent_run_id, attempt)
        with self._guard:
            self._held[agent_run_id, attempt] = lease
            self._start()
        try:
            yield lease
        finally:
            with self._guard:
                self._held.pop((agent_run_id, attempt), None)

    @property
    def hung(self) -> int:
        """How many threads have not come back, although their step's time is over."""
        return sum(lease.is_hung for lease in self._leases())

    def stop(self) -> None:
        self._stop.set()

    def hand_over(self) -> int:
        """Let all leases run out now, for others to take the work; gives how many there were.

        That they were handed over is on record. What is reported before somebody has taken it
        still counts.
        """
        self.stop()
        return self._renew(timedelta(0))

    def _leases(self) -> list[Lease]:
        with self._guard:
            return list(self._held.values())

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._renew_for_ever, name="leases", daemon=True)
            self._thread.start()
            # Apart, so that a limiter that is away keeps nobody from renewing leases.
            threading.Thread(target=self._keep_places, name="places", daemon=True).start()

    def _keep_places(self) -> None:
        while not self._stop.wait(self._lease.total_seconds() / 3):
            calls = [call for lease in self._leases() for call in tuple(lease.calls)]
            if calls:
                limits().renew(calls)

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
        self._renew(self._lease)

    def _renew(self, length: timedelta) -> int:
        """How many attempts are still ours. One renewal at a time, so that the last one counts."""
        with self._renewing:
            if self._stop.is_set() and length:
                return 0
            held = [lease for lease in self._leases() if not lease.lost.is_set()]
            if not held:
                return 0
            renewed = engine_db.many(
                _RENEW,
                self._worker,
                [lease.agent_run_id for lease in held],
                [lease.attempt for lease in held],
                length,
                GRACE,
                alias=engine_db.LEASES,
            )
        ours = {(row["id"], row["attempt"]): row["is_stopping"] for row in renewed}
        for lease in held:
            key = lease.agent_run_id, lease.attempt
            if key not in ours:
                lease.lose()
            elif ours[key]:
                lease.stopping.set()
        return len(ours)


@cache
def keeper_of(worker: str) -> LeaseKeeper:
    """The one keeper of this process, which has one worker."""
    return LeaseKeeper(worker, lease=lease_length())


def lease_length() -> timedelta:
    return timedelta(seconds=settings.MUSTER_LEASE_SECONDS)
