"""Deals out the workers among the tenants, every half second in one of the control workers."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import structlog

from orchestrator.core.fairness import Demand, capacity, windows
from orchestrator.core.hints import hints_of
from orchestrator.dispatch.canvas import publish
from orchestrator.execution import engine_db
from orchestrator.execution.engine_db import Row
from orchestrator.services.alone import Work, is_alone

log = structlog.get_logger(__name__)

SECONDS: Final = 0.5
# What has waited so long becomes more urgent by one.
AGES_IN_SECONDS: Final = 30
_AGE_EVERY_SECONDS: Final = 5
_MEND_EVERY_SECONDS: Final = 60
# More than that beside twice the slots is not counted: nobody can get so many.
_MOST_WAITING: Final = 500

_CLUSTER = "SELECT * FROM muster_cluster()"
_LOADS = "SELECT * FROM muster_loads(%s)"
_SHARE_OUT = "SELECT muster_share_out(%s::uuid[], %s::int[], %s)"
_AGE = "SELECT muster_age_waiting(%s::uuid[], %s)"
_REFILL = "SELECT * FROM muster_refill(%s)"
_MEND = "SELECT * FROM muster_mend_loads()"


@dataclass(slots=True)
class Dealer:
    """Remembers how much had ended by when, to know how fast the cluster is."""

    ended: int = 0
    at: float = -math.inf
    ages_at: float = 0.0
    mends_at: float = 0.0

    def deal(self) -> None:
        """Work out everybody's window, and send what waits and has a place now.

        Does nothing while another process deals.
        """
        now = time.monotonic()
        with engine_db.transaction(alias="system") as connection:
            if not is_alone(connection, Work.FAIR_SHARES):
                return
            (cluster,) = engine_db.rows(connection, _CLUSTER, [])
            loads = engine_db.rows(connection, _LOADS, [_MOST_WAITING + 2 * cluster["slots"]])
            total = capacity(slots=cluster["slots"], ended_per_second=self._speed(loads, now))
            shares, newcomers = _shares(total, loads)
            dealt = {row["tenant_id"]: row["window"] for row in loads if row["window"] is not None}
            if (shares, newcomers) != (dealt, cluster["window"]):
                given = [list(shares), list(shares.values()), newcomers]
                engine_db.rows(connection, _SHARE_OUT, given)
        waiting = [row for row in loads if row["waiting"]]
        for row in waiting:
            if row["in_flight"] < shares[row["tenant_id"]]:
                hints = engine_db.many(_REFILL, row["tenant_id"])
                publish(hints_of(row["tenant_id"], hints))
        if waiting and now >= self.ages_at:
            self.ages_at = now + _AGE_EVERY_SECONDS
            tenants = [row["tenant_id"] for row in waiting]
            engine_db.many(_AGE, tenants, AGES_IN_SECONDS, alias="system")
        if now >= self.mends_at:
            self.mends_at = now + _MEND_EVERY_SECONDS
            _mend()

    def _speed(self, loads: list[Row], now: float) -> float:
        """Agent runs that ended per second since the last time."""
        ended = sum(int(row["ended"]) for row in loads)
        speed = max(0, ended - self.ended) / max(now - self.at, SECONDS)
        self.ended, self.at = ended, now
        return speed


def _shares(total: int, loads: list[Row]) -> tuple[dict[UUID, int], int]:
    """The windows of the tenants that have something to do, and that of any other."""
    demands = {
        row["tenant_id"]: Demand(weight=row["weight"], wanted=row["in_flight"] + row["waiting"])
        for row in loads
        if row["in_flight"] > 0 or row["waiting"]
    }
    newcomer = Demand(weight=1, wanted=total)
    return windows(total, demands), windows(total, {**demands, None: newcomer})[None]


def _mend() -> None:
    for row in engine_db.many(_MEND, alias="system"):
        log.error("load_was_wrong", tenant_id=str(row["tenant_id"]), wrong_by=row["wrong_by"])
