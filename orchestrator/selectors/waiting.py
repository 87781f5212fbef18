"""Waits summed up: which gate holds how much, in one tenant or in all."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from django.db import connections

from orchestrator.core.state import WaitingReason
from orchestrator.dispatch.routing import HIGH_FROM, LOW_BELOW, agent_queue
from orchestrator.selectors.waits import WAITS_FOR
from tenants.principals import Principal

_AT_WORK: Final = "at_work"
_SUMS: Final = """
SELECT g.*, t.slug, t.name AS tenant
  FROM (SELECT s.tenant_id, s.reason, s.name, count(s.agent_run_id) AS agent_runs,
               count(DISTINCT s.run_id) AS runs, min(s.since) AS since, min(s.until) AS until,
               (array_agg(s.run_id ORDER BY s.since))[1] AS longest_run_id,
               count(*) FILTER (WHERE s.priority >= %s) AS high,
               count(*) FILTER (WHERE s.priority < %s) AS low
          FROM muster_standing(%s, %s) s GROUP BY s.tenant_id, s.reason, s.name) g
  JOIN tenant t ON t.id = g.tenant_id
 ORDER BY g.agent_runs DESC, g.runs DESC, g.since
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantName:
    id: UUID
    slug: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What one gate holds of one tenant.

    `name` is the limit's or budget's, `until` when the first goes on by itself, None if nobody
    knows. What runs wait for as a whole holds no agent runs.
    """

    tenant: TenantName
    reason: str
    name: str
    agent_runs: int
    runs: int
    since: datetime
    until: datetime | None
    longest_run_id: UUID

    @property
    def gate(self) -> str:
        return self.name or WAITS_FOR[self.reason]


@dataclass(frozen=True, slots=True, kw_only=True)
class AtWork:
    """How many agent runs of a tenant a worker's process holds."""

    tenant: TenantName
    worker: str
    agent_runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How things stand: what gates hold, most first, and what workers do.

    `queued` counts by queue what is published and not yet begun.
    """

    held: Sequence[Held]
    at_work: Sequence[AtWork]
    queued: dict[str, int]

    @property
    def waiting(self) -> int:
        return sum(each.agent_runs for each in self.held)

    @property
    def working(self) -> int:
        return sum(each.agent_runs for each in self.at_work)

    @property
    def longest(self) -> datetime | None:
        return min((each.since for each in self.held if each.agent_runs), default=None)


def tenant_standing(principal: Principal) -> Standing:
    """Of the caller's tenant, or of the one project that its key is narrowed to."""
    return _standing("default", principal.tenant_id, principal.project_id)


def pauses_of(standing: Standing) -> list[Held]:
    """The models whose provider has asked for a pause, as far as somebody waits for it."""
    return [
        each
        for each in standing.held
        if each.reason == WaitingReason.RATE_LIMITED and each.name.endswith(" pause")
    ]


def platform_standing() -> Standing:
    """Of all tenants. For operators: the caller has been checked."""
    return _standing("system", None, None)


def _standing(alias: str, tenant_id: UUID | None, project_id: UUID | None) -> Standing:
    with connections[alias].cursor() as cursor:
        cursor.execute(_SUMS, [HIGH_FROM, LOW_BELOW, tenant_id, project_id])
        columns = [column.name for column in cursor.description or ()]
        rows = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
    return Standing(
        held=[_held(row) for row in rows if row["reason"] != _AT_WORK],
        at_work=[_at_work(row) for row in rows if row["reason"] == _AT_WORK],
        queued=_queued([row for row in rows if row["reason"] == WaitingReason.WORKER]),
    )


def _held(row: dict[str, Any]) -> Held:
    facts = ("reason", "name", "agent_runs", "runs", "since", "until", "longest_run_id")
    return Held(tenant=_tenant(row), **{fact: row[fact] for fact in facts})


def _at_work(row: dict[str, Any]) -> AtWork:
    return AtWork(tenant=_tenant(row), worker=row["name"], agent_runs=row["agent_runs"])


def _tenant(row: dict[str, Any]) -> TenantName:
    return TenantName(id=row["tenant_id"], slug=row["slug"], name=row["tenant"])


def _queued(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    high, low, total = (sum(row[name] for row in rows) for name in ("high", "low", "agent_runs"))
    return {
        agent_queue(HIGH_FROM): high,
        agent_queue(LOW_BELOW): total - high - low,
        agent_queue(LOW_BELOW - 1): low,
    }
