"""Which limits hold for a call: rows, as tiers of scopes, from memory for a few seconds."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from cachetools import TTLCache, cached
from django.db import connection

from orchestrator.core.limits import CallFacts, Counting, LimitedScope, Period, Tier, Unit
from orchestrator.core.limits.tiers import PERIOD_SECONDS, SECOND_US
from orchestrator.models.limits import LimitFields, PlatformRateLimit, PlatformScope, RateLimit
from tenants.kernel.clock import now
from tenants.scope import tenant_scope

# How soon a saved limit counts everywhere.
FRESH_SECONDS: Final = 3
_ANY: Final = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whose calls a scope limits; None stands for any."""

    tenant_id: UUID | None = None
    project_id: UUID | None = None
    workflow_id: UUID | None = None
    agent: str | None = None
    credential_id: UUID | None = None
    provider: str | None = None
    model: str | None = None
    operators_key: bool = False

    def concerns(self, call: CallFacts) -> bool:
        return (
            self.project_id in (None, call.project_id)
            and self.workflow_id in (None, call.workflow_id)
            and self.agent in (None, call.agent)
            and self.credential_id in (None, call.credential_id)
            and self.provider in (None, call.provider)
            and self.model in (None, call.model)
            and not (self.operators_key and call.credential_id)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """The scopes that a call has to pass, and whom each concerns, in the same order."""

    scopes: tuple[LimitedScope, ...]
    subjects: tuple[Subject, ...]
    target: LimitedScope


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A row, ready to be applied. Rows with the same key are tiers of one scope."""

    key: str
    name: str
    subject: Subject
    tier: Tier
    row_id: UUID
    is_tenants: bool


@dataclass(slots=True)
class TenantLimits:
    """All limits that can concern a tenant's calls."""

    limits: tuple[Limit, ...]
    _applied: dict[tuple[object, ...], Applied] = field(default_factory=dict)

    def of(self, call: CallFacts) -> Applied:
        place = (
            call.project_id,
            call.workflow_id,
            call.agent,
            call.provider,
            call.model,
            call.credential_id,
        )
        found = self._applied.get(place)
        if found is None:
            found = self._applied[place] = _applied(self.limits, call)
        return found


def limits_of(call: CallFacts) -> Applied:
    """What a call has to pass, as the rows said at most a few seconds ago."""
    return limits_of_tenant(call.tenant_id).of(call)


@cached(
    TTLCache[UUID, "TenantLimits"](maxsize=10_000, ttl=FRESH_SECONDS),
    # Threads that miss it together read it once.
    condition=threading.Condition(),
)
def limits_of_tenant(tenant_id: UUID) -> TenantLimits:
    with tenant_scope(tenant_id):
        own = RateLimit.objects.select_related("project", "workflow", "credential")
        limits = limits_from([*_operators_rows(tenant_id), *own], now())
    if not connection.in_atomic_block:
        # Back to the pool at once: the model call that follows may take minutes.
        connection.close()
    return TenantLimits(limits)


def forget() -> None:
    """Have the next call read the rows: for the process that has changed them, and for tests."""
    limits_of_tenant.cache_clear()


def target_key(call: CallFacts) -> str:
    """A provider's model behind a key: what its answers tell about."""
    return f"m:{call.provider}:{call.model}:{call.credential_id or 'own'}"


def limits_from(rows: Iterable[PlatformRateLimit | RateLimit], at: datetime) -> tuple[Limit, ...]:
    return tuple(_limit(row, at) for row in rows)


def _operators_rows(tenant_id: UUID) -> list[PlatformRateLimit]:
    """A row for the tenant takes the place of the one for each tenant."""
    rows = list(PlatformRateLimit.objects.order_by("id"))
    own = {_what(row) for row in rows if row.for_tenant_id == tenant_id}
    for row in rows:
        if row.scope == PlatformScope.TENANT and row.for_tenant_id is None:
            if _what(row) in own:
                rows = [other for other in rows if other is not row]
            else:
                row.for_tenant_id = tenant_id
    return rows


def _what(row: LimitFields) -> tuple[str, ...]:
    return (row.provider, row.model, row.unit, row.period)


def _applied(limits: tuple[Limit, ...], call: CallFacts) -> Applied:
    target = target_key(call)
    groups: dict[str, list[Limit]] = {target: []}
    for limit in limits:
        if limit.subject.concerns(call):
            groups.setdefault(limit.key, []).append(limit)
    scopes, subjects = [], []
    for key, group in groups.items():
        name = group[0].name if group else f"{call.provider} {call.model}"
        tiers = tuple(limit.tier for limit in group)
        scopes.append(LimitedScope(key=key, name=name, tiers=tiers))
        subjects.append(group[0].subject if group else Subject())
    return Applied(scopes=tuple(scopes), subjects=tuple(subjects), target=scopes[0])


def _limit(row: PlatformRateLimit | RateLimit, at: datetime) -> Limit:
    key, name, facts = _scope_of(row)
    subject = Subject(provider=row.provider or None, model=row.model or None, **facts)
    if row.provider and facts.get("operators_key") is None:
        key += f"|{row.provider}|{row.model}"
        if subject.credential_id and row.model:
            # What the provider says of the key and the model concerns this scope.
            key = f"m:{row.provider}:{row.model}:{subject.credential_id}"
        name += f" on {row.provider} {row.model}".rstrip()
    return Limit(
        key=key,
        name=name,
        subject=subject,
        tier=tier_of(row, at),
        row_id=row.pk,
        is_tenants=isinstance(row, RateLimit),
    )


def _scope_of(row: PlatformRateLimit | RateLimit) -> tuple[str, str, dict[str, Any]]:
    """Key, name and whom it concerns, but for provider and model."""
    if isinstance(row, PlatformRateLimit):
        return _operators_scope(row)
    tenant = {"tenant_id": row.tenant_id}
    if row.project is not None:
        own = {**tenant, "project_id": row.project_id}
        return f"j:{row.project_id}", f"project {row.project.slug}", own
    if row.workflow is not None:
        own = {**tenant, "workflow_id": row.workflow_id}
        return f"w:{row.workflow_id}", f"workflow {row.workflow.name}", own
    if row.agent:
        return (
            f"a:{row.tenant_id}:{row.agent}",
            f"agent {row.agent}",
            {**tenant, "agent": row.agent},
        )
    if row.credential is not None:
        own = {**tenant, "credential_id": row.credential_id}
        return f"c:{row.credential_id}", f"credential {row.credential.name}", own
    return f"t:{row.tenant_id}", "tenant's own", tenant


def _operators_scope(row: PlatformRateLimit) -> tuple[str, str, dict[str, Any]]:
    if row.scope == PlatformScope.EVERYTHING:
        return "all", "platform", {}
    if row.scope == PlatformScope.TENANT:
        facts = {"tenant_id": row.for_tenant_id}
        return f"T:{row.for_tenant_id}", "tenant", facts
    key = f"m:{row.provider}:{row.model}:own" if row.model else f"p:{row.provider}:own"
    return key, f"{row.provider} {row.model}".rstrip(), {"operators_key": True}


def tier_of(row: LimitFields, at: datetime) -> Tier:
    unit = Unit(row.unit)
    if unit is Unit.CONCURRENT:
        return Tier(
            key=unit,
            name="concurrent requests",
            unit=unit,
            counting=Counting.CONCURRENT,
            limit=row.limit,
            capacity=row.limit,
            period_us=0,
        )
    counting = Counting(row.counting)
    return Tier(
        key=f"{unit}:{row.period}:{counting}",
        name=f"{unit.replace('_', ' ')} per {_period_name(row, counting)}",
        unit=unit,
        counting=counting,
        limit=row.limit,
        capacity=row.limit if row.capacity is None else row.capacity,
        period_us=PERIOD_SECONDS[Period(row.period)] * SECOND_US,
        days=_days(row.time_zone, at) if counting is Counting.CALENDAR else (),
    )


def _period_name(row: LimitFields, counting: Counting) -> str:
    if counting is Counting.CALENDAR:
        return f"calendar day ({row.time_zone})"
    return f"clock {row.period}" if counting is Counting.WINDOW else row.period


def _days(time_zone: str, at: datetime) -> tuple[int, ...]:
    """The beginnings of the days around now, so that a clock that is a day wrong does no harm."""
    zone = ZoneInfo(time_zone)
    today = at.astimezone(zone).date()
    days = (today + timedelta(days=offset) for offset in range(-1, 4))
    midnights = (datetime.combine(day, time(), tzinfo=zone) for day in days)
    return tuple(int(midnight.timestamp()) * SECOND_US for midnight in midnights)
