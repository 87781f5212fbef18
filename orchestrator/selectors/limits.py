"""Limits and how much of them is used, as people and programs are shown them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import floor
from uuid import UUID

import redis
import structlog
from django.db.models import Q, QuerySet

from orchestrator.core.limits import LimitedScope, Tier
from orchestrator.limits.process import redis_client
from orchestrator.limits.scopes import Limit, limits_from, limits_of_tenant
from orchestrator.limits.usage import ScopeUsage, TierUsage, Waiter, usage_of
from orchestrator.models import PlatformRateLimit, RateLimit
from tenants.kernel.clock import now
from tenants.principals import Principal

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A limit with its present usage. `waiting` are those whom the asker may know of."""

    limit: Limit
    usage: TierUsage
    paused_seconds: float
    waiting: tuple[Waiter, ...]
    known: bool = True

    @property
    def tier(self) -> Tier:
        return self.limit.tier

    @property
    def gate(self) -> str:
        return f"{self.limit.name} {self.tier.name}"

    @property
    def share(self) -> float:
        """How much of it is used, from 0 to 1."""
        return min(1.0, (self.usage.used or 0.0) / self.tier.most)

    @property
    def usual_wait(self) -> float:
        """Seconds that those who were told to wait were told, on average."""
        return self.usage.waited_seconds / self.usage.denials if self.usage.denials else 0.0

    @property
    def whole_left(self) -> int | None:
        """What is left, without the part of one that is still refilling."""
        return None if self.usage.left is None else floor(self.usage.left)

    @property
    def whole_used(self) -> int | None:
        return None if self.whole_left is None else max(self.tier.most - self.whole_left, 0)


_NOTHING = TierUsage(used=None, left=None, refills_seconds=None)


def rate_limits_of(principal: Principal) -> QuerySet[RateLimit]:
    """The tenant's own limits; a key of one project sees none of other projects."""
    rows = RateLimit.objects.select_related("project", "workflow", "credential")
    project = principal.project_id
    if project is None:
        return rows
    elsewhere = (Q(project__isnull=False) & ~Q(project=project)) | (
        Q(workflow__isnull=False) & ~Q(workflow__project=project)
    )
    return rows.exclude(elsewhere)


def buckets_for(principal: Principal) -> list[Bucket]:
    """Every limit that can hold up the caller's calls, the operator's included.

    Of those that it shares with other tenants it is told the usage, and which of its own wait.
    """
    own = {row.pk for row in rate_limits_of(principal)} if principal.project_id else None
    limits = [
        limit
        for limit in limits_of_tenant(principal.tenant_id).limits
        if own is None or not limit.is_tenants or limit.row_id in own
    ]
    return _buckets(limits, tenant_id=principal.tenant_id)


def buckets_of_rows(
    rows: Iterable[RateLimit | PlatformRateLimit], *, tenant_id: UUID | None
) -> dict[UUID, Bucket]:
    """The usage of rows by their ids; with a tenant, of others who wait nothing is told."""
    shown = list(rows)
    buckets = _buckets(limits_from(shown, now()), tenant_id=tenant_id)
    return {row.pk: bucket for row, bucket in zip(shown, buckets, strict=True)}


def _buckets(limits: Sequence[Limit], *, tenant_id: UUID | None) -> list[Bucket]:
    scopes = _grouped(limits)
    try:
        usage = usage_of(redis_client(), scopes)
    except (redis.RedisError, OSError) as error:
        log.warning("limit_usage_unknown", error=type(error).__name__)
        usage = None
    return [_bucket(limit, (usage or {}).get(limit.key), tenant_id) for limit in limits]


def _grouped(limits: Sequence[Limit]) -> list[LimitedScope]:
    tiers: dict[str, list[Tier]] = {}
    for limit in limits:
        tiers.setdefault(limit.key, []).append(limit.tier)
    return [LimitedScope(key=key, name=key, tiers=tuple(own)) for key, own in tiers.items()]


def _bucket(limit: Limit, scope: ScopeUsage | None, tenant_id: UUID | None) -> Bucket:
    if scope is None:
        return Bucket(limit=limit, usage=_NOTHING, paused_seconds=0.0, waiting=(), known=False)
    waiting = tuple(w for w in scope.waiters if tenant_id is None or w.tenant == str(tenant_id))
    return Bucket(
        limit=limit,
        usage=scope.tiers[limit.tier.key],
        paused_seconds=scope.paused_seconds,
        waiting=waiting,
    )
