"""Pauses what spends far more a minute than it usually does, and asks a person.

Control workers look every two seconds, one at a time. What has been begun goes on; nothing more is.
A loop is so cut off a few seconds after it has spent too much, and not when its budget is gone.
Resuming a run that was paused is a person's yes, which holds for a while.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import groupby
from operator import attrgetter
from typing import Final
from uuid import UUID

import structlog
from django.conf import settings
from psycopg.errors import DeadlockDetected
from psycopg.types.json import Jsonb

from orchestrator.core.velocity import (
    Excess,
    Pace,
    Spending,
    together_too_fast,
    too_fast,
    usual_of_tenant,
    usual_of_workflow,
)
from orchestrator.dispatch.live import nudge
from orchestrator.execution import engine_db
from orchestrator.services.alerts import can_mail
from orchestrator.services.alone import Work, is_alone

log = structlog.get_logger(__name__)

SECONDS: Final = 2.0
_WINDOW: Final = timedelta(minutes=1)
# Of a tenant's minutes so many days are kept, and of a workflow's ended runs so many are looked at.
_KEPT: Final = timedelta(days=7)
_RUNS: Final = 20
# What is usual is worked out anew after so long, and a minute kept well within the next.
_USUAL_FOR_SECONDS: Final = 300.0
_KEEP_EVERY_SECONDS: Final = 20.0

_SPENDING = "SELECT * FROM muster_spending(%s, %s, %s)"
_KEEP = "SELECT muster_keep_minute(%s)"
_BUSIEST = "SELECT * FROM muster_busiest_minutes(%s, %s, %s)"
_MEDIAN = "SELECT * FROM muster_median_minute(%s)"
_PAUSE = "SELECT muster_pause_for_spend(%s, %s, %s, %s, %s, %s) AS paused"


@dataclass(slots=True)
class Guard:
    """Remembers for some minutes what is usual, which costs more to work out than the rest."""

    keeps_at: float = 0.0
    _usual: dict[UUID, tuple[float, int | None]] = field(default_factory=dict)

    def watch(self) -> int:
        """One look. Gives how many runs it has paused; none while another process looks."""
        floor = settings.MUSTER_VELOCITY_FLOOR_NANO
        if not floor:
            return 0
        pace = Pace(factor=settings.MUSTER_VELOCITY_FACTOR, floor=floor)
        by_tenant = groupby(self._look(floor), key=attrgetter("tenant_id"))
        return sum(
            _pause(excess)
            for tenant_id, runs in by_tenant
            for excess in self._judge(tenant_id, list(runs), pace)
        )

    def _look(self, floor: int) -> list[Spending]:
        with engine_db.transaction(alias="system") as connection:
            if not is_alone(connection, Work.VELOCITY):
                return []
            if time.monotonic() >= self.keeps_at:
                self.keeps_at = time.monotonic() + _KEEP_EVERY_SECONDS
                engine_db.rows(connection, _KEEP, [_KEPT])
            rows = engine_db.rows(connection, _SPENDING, [_WINDOW, floor, _yes()])
        return sorted((Spending(**row) for row in rows), key=attrgetter("tenant_id"))

    def _judge(self, tenant_id: UUID, runs: list[Spending], pace: Pace) -> Iterator[Excess]:
        """Runs of a tenant that spend too much by themselves, then those that do so together."""
        rest = []
        for run in runs:
            # Below the floor nothing need be known of its workflow.
            usual = self._of_workflow(run) if run.is_going and run.spent > pace.floor else 0
            excess = too_fast(run, pace=pace, usual=usual)
            if excess:
                yield excess
            else:
                rest.append(run)
        if sum(run.spent for run in rest if run.is_judged) > pace.tenant_limit(None):
            yield from together_too_fast(rest, pace=pace, usual=self._of_tenant(tenant_id))

    def _of_workflow(self, run: Spending) -> int | None:
        def ask() -> int | None:
            query = [run.tenant_id, run.workflow_id, _RUNS]
            rows = engine_db.many(_BUSIEST, *query, alias="system")
            return usual_of_workflow([row["spent"] for row in rows])

        return self._remembered(run.workflow_id, ask)

    def _of_tenant(self, tenant_id: UUID) -> int | None:
        def ask() -> int | None:
            (row,) = engine_db.many(_MEDIAN, tenant_id, alias="system")
            return usual_of_tenant(row["spent"], minutes=row["minutes"])

        return self._remembered(tenant_id, ask)

    def _remembered(self, of: UUID, ask: Callable[[], int | None]) -> int | None:
        now = time.monotonic()
        self._usual = {key: known for key, known in self._usual.items() if known[0] > now}
        if of not in self._usual:
            self._usual[of] = (now + _USUAL_FOR_SECONDS, ask())
        return self._usual[of][1]


def _pause(excess: Excess) -> bool:
    run = excess.run
    given = [run.tenant_id, run.run_id, excess.reason, Jsonb(excess.facts), _yes(), can_mail()]
    try:
        row = engine_db.one(_PAUSE, *given)
    except DeadlockDetected:
        return False  # with a worker; the next look comes soon
    if not row or not row["paused"]:
        return False
    nudge(run.run_id)
    log.warning(
        "run_spends_fast",
        tenant_id=str(run.tenant_id),
        run_id=str(run.run_id),
        scope=excess.scope,
        spent_nano=excess.spent,
        limit_nano=excess.limit,
    )
    return True


def _yes() -> timedelta:
    return timedelta(seconds=settings.MUSTER_VELOCITY_YES_SECONDS)
