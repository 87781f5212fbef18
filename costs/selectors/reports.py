"""What was spent on what: sums over the ledger, by whatever people ask for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db.models import Count, Max, Q, QuerySet, Sum
from django.db.models.functions import TruncDate

from costs.core.errors import TooManyGroupsError
from costs.models import CostEntry, CostKind
from tenants.models import Project, Tenant
from tenants.scope import current_tenant_id

MOST_ROWS: Final = 10_000


class Group(StrEnum):
    """What a summary can be grouped by."""

    DAY = "day"
    TENANT = "tenant"
    PROJECT = "project"
    WORKFLOW = "workflow"
    AGENT = "agent"
    PROVIDER = "provider"
    MODEL = "model"  # with its provider
    ROLE = "role"


_COLUMNS: Final[Mapping[Group, tuple[str, ...]]] = {
    Group.DAY: ("day",),
    Group.TENANT: ("tenant_id",),
    Group.PROJECT: ("project_id",),
    Group.WORKFLOW: ("workflow_id",),
    Group.AGENT: ("agent",),
    Group.PROVIDER: ("provider",),
    Group.MODEL: ("provider", "model"),
    Group.ROLE: ("role",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Sums of ledger lines, in nano-USD and tokens.

    The cost is all of it; estimated, in doubt and corrections say how much of it is so. Input
    includes cached and cache-write tokens, output reasoning tokens.
    """

    cost: int = 0
    estimated: int = 0
    in_doubt: int = 0
    corrections: int = 0
    calls: int = 0
    failed_calls: int = 0
    input: int = 0
    cached: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryRow:
    """`key` holds a value for every column of the groups, and the names that belong to ids."""

    key: Mapping[str, Any]
    figures: Figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    since: datetime
    until: datetime
    zone: ZoneInfo
    groups: tuple[Group, ...]
    rows: Sequence[SummaryRow]
    total: Figures


def summary(
    lines: QuerySet[CostEntry],
    *,
    since: datetime,
    until: datetime,
    zone: ZoneInfo,
    groups: Sequence[Group] = (Group.DAY,),
    most: int | None = None,
) -> Summary:
    """What the lines of `since` to `until` (exclusive) add up to, the dearest groups first.

    A line belongs to the time at which its call was held, so a late correction changes the period
    of its call. Days come in their order. Raises TooManyGroupsError.
    """
    within = lines.filter(held_at__gte=since, held_at__lt=until).order_by()
    columns = list(dict.fromkeys(name for group in groups for name in _COLUMNS[group]))
    days = {"day": TruncDate("held_at", tzinfo=zone)} if Group.DAY in groups else {}
    grouped = within.annotate(**days).values(*columns).annotate(**_SUMS)
    if Group.WORKFLOW in groups:
        grouped = grouped.annotate(workflow=Max("workflow_name"))
    order = ["day"] if days else []
    most = most or MOST_ROWS
    found = list(grouped.order_by(*order, "-cost", *columns)[: most + 1])
    if len(found) > most:
        raise TooManyGroupsError(most)
    return Summary(
        since=since,
        until=until,
        zone=zone,
        groups=tuple(groups),
        rows=_named(found, using=lines.db),
        total=_sum_of(found),
    )


def lines_of_tenant(project_id: UUID | None = None) -> QuerySet[CostEntry]:
    """The ledger of the open tenant, or of one project in it."""
    lines = CostEntry.objects.filter(tenant_id=current_tenant_id())
    return lines if project_id is None else lines.filter(project_id=project_id)


def lines_of_all() -> QuerySet[CostEntry]:
    """Every tenant's. For operators: the caller has been checked."""
    return CostEntry.objects.using("system").all()


def _sum(column: str, **only: Any) -> Sum:
    return Sum(column, default=0, filter=Q(**only) if only else None)


_FIGURES: Final = tuple(Figures.__dataclass_fields__)
_SUMS: Final[Mapping[str, Any]] = {
    "cost": _sum("amount_nano"),
    "estimated": _sum("amount_nano", estimated=True),
    "in_doubt": _sum("amount_nano", kind=CostKind.IN_DOUBT),
    "corrections": _sum("amount_nano", kind=CostKind.CORRECTION),
    "calls": Count("id", filter=~Q(kind=CostKind.CORRECTION)),
    "failed_calls": Count("id", filter=Q(kind=CostKind.FAILED)),
    "input": _sum("input_tokens"),
    "cached": _sum("cached_tokens"),
    "cache_write": _sum("cache_write_tokens"),
    "output": _sum("output_tokens"),
    "reasoning": _sum("reasoning_tokens"),
}


def _named(found: Sequence[Mapping[str, Any]], *, using: str) -> list[SummaryRow]:
    projects = {row["project_id"] for row in found if "project_id" in row}
    tenants = {row["tenant_id"] for row in found if "tenant_id" in row}
    names = {
        "project": dict(
            Project.objects.db_manager(using).filter(id__in=projects).values_list("id", "slug")
        )
        if projects
        else {},
        "tenant": dict(Tenant.objects.using(using).filter(id__in=tenants).values_list("id", "slug"))
        if tenants
        else {},
    }
    return [_row(row, names) for row in found]


def _row(row: Mapping[str, Any], names: Mapping[str, Mapping[UUID, str]]) -> SummaryRow:
    key = {name: value for name, value in row.items() if name not in _FIGURES}
    for what, known in names.items():
        if f"{what}_id" in key:
            # A project that was deleted since is known by its id alone.
            key[what] = known.get(key[f"{what}_id"], "")
    return SummaryRow(key=key, figures=Figures(**{name: int(row[name]) for name in _FIGURES}))


def _sum_of(found: Sequence[Mapping[str, Any]]) -> Figures:
    return Figures(**{name: int(sum(row[name] for row in found)) for name in _FIGURES})
