"""The workers of the cluster, and what each tenant has of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models.functions import Now

from orchestrator.core.state import WaitingReason
from orchestrator.execution.presence import COUNTS_SECONDS
from orchestrator.models import ClusterLoad, TenantShare, WorkerProcess
from orchestrator.selectors.waiting import Standing, TenantName


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLoad:
    """A process that runs agents, how many of its slots are taken, and messages it has handled."""

    name: str
    slots: int
    busy: int
    handled: int
    started_at: datetime
    seen_at: datetime

    @property
    def free(self) -> int:
        return max(0, self.slots - self.busy)


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantDemand:
    """What a tenant has at work or queued, what waits for its share, and that share."""

    tenant: TenantName
    at_work: int
    queued: int
    lined_up: int
    share: int | None  # None: nobody has dealt out shares


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    workers: Sequence[WorkerLoad]
    tenants: Sequence[TenantDemand]
    queued: Mapping[str, int]

    @property
    def slots(self) -> int:
        return sum(worker.slots for worker in self.workers)

    @property
    def free(self) -> int:
        return sum(worker.free for worker in self.workers)

    @property
    def busy(self) -> int:
        return self.slots - self.free


def cluster(standing: Standing) -> Cluster:
    """Given how all tenants stand. For operators: the caller has been checked."""
    return Cluster(workers=_workers(standing), tenants=_demands(standing), queued=standing.queued)


def _workers(standing: Standing) -> list[WorkerLoad]:
    busy: dict[str, int] = {}
    for each in standing.at_work:
        busy[each.worker] = busy.get(each.worker, 0) + each.agent_runs
    there = WorkerProcess.objects.using("system").filter(
        seen_at__gt=Now() - timedelta(seconds=COUNTS_SECONDS)
    )
    return [
        WorkerLoad(
            name=row.name,
            slots=row.slots,
            busy=busy.get(row.name, 0),
            handled=row.handled,
            started_at=row.started_at,
            seen_at=row.seen_at,
        )
        for row in there.order_by("name")
    ]


def _demands(standing: Standing) -> list[TenantDemand]:
    """The tenants with something to do for workers, the busiest first."""
    counts: dict[TenantName, dict[str, int]] = {}
    for working in standing.at_work:
        _add(counts, working.tenant, "at_work", working.agent_runs)
    for held in standing.held:
        if held.reason in (WaitingReason.WORKER, WaitingReason.TENANT_SHARE):
            _add(counts, held.tenant, held.reason, held.agent_runs)
    shares: dict[UUID, int] = dict(
        TenantShare.objects.using("system").values_list("tenant_id", "window")
    )
    newcomers = ClusterLoad.objects.using("system").values_list("window", flat=True).first()
    demands = [
        TenantDemand(
            tenant=tenant,
            at_work=of.get("at_work", 0),
            queued=of.get(WaitingReason.WORKER, 0),
            lined_up=of.get(WaitingReason.TENANT_SHARE, 0),
            share=shares.get(tenant.id, newcomers),
        )
        for tenant, of in counts.items()
    ]
    return sorted(demands, key=lambda d: (-d.at_work - d.queued - d.lined_up, d.tenant.slug))


def _add(
    counts: dict[TenantName, dict[str, int]], tenant: TenantName, what: str, more: int
) -> None:
    of_tenant = counts.setdefault(tenant, {})
    of_tenant[what] = of_tenant.get(what, 0) + more
