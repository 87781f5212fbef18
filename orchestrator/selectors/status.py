"""What was done in a window of time, for one tenant or for the whole platform."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Avg, Count, F, Q, QuerySet, Sum

from costs.models import CostEntry, CostKind
from orchestrator.core.state import TERMINAL_RUN, AgentRunStatus, RunStatus
from orchestrator.models import AgentRun, Run
from tenants.kernel.clock import now
from tenants.models import Tenant
from tenants.principals import Principal

_LIVE = [status for status in RunStatus if status not in TERMINAL_RUN]
_EXECUTED = (AgentRunStatus.COMPLETED, AgentRunStatus.FAILED)
_TOKENS = ("input", "output", "cached", "reasoning")
# Ids begin with the time at which they were made, by clocks that differ a little.
_SLACK = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """`ended` counts runs by the state they ended in; API calls are calls to models."""

    tenant: Tenant | None  # None: all tenants
    since: datetime
    until: datetime
    started: int
    live: int
    ended: Mapping[str, int]
    agents_executed: int
    agents_failed: int
    average_agent_seconds: float | None
    api_calls: int
    tokens: Mapping[str, int]
    cost_nano: int


def tenant_status(principal: Principal, window: timedelta) -> Status:
    """The caller's tenant, or the one project that its key is narrowed to."""
    runs, lines = Run.objects.all(), CostEntry.objects.filter(tenant_id=principal.tenant_id)
    if principal.project_id is not None:
        runs = runs.filter(project_id=principal.project_id)
        lines = lines.filter(project_id=principal.project_id)
    tenant = Tenant.objects.get(id=principal.tenant_id)
    return _status(tenant, runs=runs, agent_runs=AgentRun.objects.all(), lines=lines, window=window)


def platform_status(window: timedelta) -> Status:
    """All tenants together. For operators: the caller has been checked."""
    return _status(
        None,
        runs=Run.objects.db_manager("system").all(),
        agent_runs=AgentRun.objects.db_manager("system").all(),
        lines=CostEntry.objects.using("system").all(),
        window=window,
    )


def _status(
    tenant: Tenant | None,
    *,
    runs: QuerySet[Run],
    agent_runs: QuerySet[AgentRun],
    lines: QuerySet[CostEntry],
    window: timedelta,
) -> Status:
    until = now()
    since = until - window
    runs = runs.order_by()
    ended = runs.filter(finished_at__gte=since).values_list("status").annotate(Count("id"))
    return Status(
        tenant=tenant,
        since=since,
        until=until,
        started=runs.filter(id__gte=_first_id(since - _SLACK), created_at__gte=since).count(),
        live=runs.filter(status__in=_LIVE).count(),
        ended={str(status): 0 for status in TERMINAL_RUN} | dict(ended),
        **_agents(agent_runs, runs, since),
        **_spent(lines, since),
    )


def _agents(agent_runs: QuerySet[AgentRun], runs: QuerySet[Run], since: datetime) -> dict[str, Any]:
    # Agent runs are found through their runs, which have an index on their end.
    open_then = runs.filter(Q(finished_at__gte=since) | Q(finished_at__isnull=True))
    done = agent_runs.filter(run__in=open_then, finished_at__gte=since, status__in=_EXECUTED)
    # What a replay took over was done before; what only stands for others is no agent.
    ended = done.filter(reused_from__isnull=True, kind="agent")
    found = ended.aggregate(
        executed=Count("id"),
        failed=Count("id", filter=Q(status=AgentRunStatus.FAILED)),
        average=Avg(F("finished_at") - F("started_at")),
    )
    average: timedelta | None = found["average"]
    return {
        "agents_executed": found["executed"],
        "agents_failed": found["failed"],
        "average_agent_seconds": average.total_seconds() if average is not None else None,
    }


def _spent(lines: QuerySet[CostEntry], since: datetime) -> dict[str, Any]:
    """From the ledger: one line for every call, and a second one where a late answer corrects."""
    found = lines.filter(held_at__gte=since).aggregate(
        calls=Count("id", filter=~Q(kind=CostKind.CORRECTION)),
        cost=Sum("amount_nano", default=0),
        **{kind: Sum(f"{kind}_tokens", default=0) for kind in _TOKENS},
    )
    tokens = {kind: int(found[kind]) for kind in _TOKENS}
    return {
        "api_calls": found["calls"],
        "tokens": {**tokens, "total": tokens["input"] + tokens["output"]},
        "cost_nano": int(found["cost"]),
    }


def _first_id(at: datetime) -> UUID:
    """No id of version 7 that was made at that time or later is smaller."""
    return UUID(int=int(at.timestamp() * 1000) << 80)
