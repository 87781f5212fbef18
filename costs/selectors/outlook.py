"""How the month will end, and whether today is out of the ordinary, from the ledger."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db.models import Min, Q, QuerySet, Sum
from django.db.models.functions import TruncDate, TruncTime

from costs.core.outlook import (
    HISTORY_DAYS,
    LEAST_UNUSUAL_NANO,
    Comparison,
    Forecast,
    compare,
    forecast,
    history_start,
)
from costs.core.periods import day_start, days_between, month_end, month_start
from costs.models import CostEntry

_UTC: Final = ZoneInfo("UTC")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """Of one month in one time zone: `month` is its first day, `end` the first after it."""

    month: date
    end: date
    today: date
    forecast: Forecast
    comparison: Comparison


def outlook(lines: QuerySet[CostEntry], *, moment: datetime, zone: ZoneInfo) -> Outlook:
    local = moment.astimezone(zone)
    today = local.date()
    days, by_now = _spent_by_day(lines, local=local, zone=zone)
    since = _first_day(lines, zone)
    past = days_between(history_start(today, since), today)
    return Outlook(
        month=month_start(today),
        end=month_end(today),
        today=today,
        forecast=forecast(days, today=today, since=since),
        comparison=compare(days.get(today, 0), [by_now.get(day, 0) for day in past]),
    )


def _spent_by_day(
    lines: QuerySet[CostEntry], *, local: datetime, zone: ZoneInfo
) -> tuple[dict[date, int], dict[date, int]]:
    """The spend of each day of this month and of the history, and of that what was by this time."""
    rows = (
        with_days(lines, today=local.date(), zone=zone)
        .annotate(time_of_day=TruncTime("held_at", tzinfo=zone))
        .values("day")
        .annotate(
            cost=Sum("amount_nano"),
            by_now=Sum("amount_nano", default=0, filter=Q(time_of_day__lte=local.time())),
        )
        .values_list("day", "cost", "by_now")
    )
    found = list(rows)
    return (
        {day: int(cost) for day, cost, _ in found},
        {day: int(by_now) for day, _, by_now in found},
    )


def with_days(lines: QuerySet[CostEntry], *, today: date, zone: ZoneInfo) -> QuerySet[Any]:
    """The lines of this month and of the history, each with its day."""
    first = min(month_start(today), today - timedelta(days=HISTORY_DAYS))
    recent = lines.filter(held_at__gte=day_start(first, zone)).order_by()
    return recent.annotate(day=TruncDate("held_at", tzinfo=zone))


def _first_day(lines: QuerySet[CostEntry], zone: ZoneInfo) -> date | None:
    first: datetime | None = lines.order_by().aggregate(first=Min("held_at"))["first"]
    return None if first is None else first.astimezone(zone).date()


@dataclass(frozen=True, slots=True, kw_only=True)
class UnusualDay:
    """A tenant's day, UTC, that is out of the ordinary so far."""

    tenant_id: UUID
    day: date
    spent_nano: int
    from_nano: int


def unusual_today(moment: datetime) -> list[UnusualDay]:
    """Of all tenants. Only those are looked at that have spent enough for it today."""
    today = moment.astimezone(UTC).date()
    lines = CostEntry.objects.using("system").order_by()
    busy = (
        lines.filter(held_at__gte=day_start(today, _UTC))
        .values("tenant_id")
        .annotate(spent=Sum("amount_nano"))
        .filter(spent__gte=LEAST_UNUSUAL_NANO)
    )
    return [
        UnusualDay(
            tenant_id=row["tenant_id"],
            day=today,
            spent_nano=found.spent_nano,
            from_nano=found.from_nano or 0,
        )
        for row in busy
        if (found := _compared(lines.filter(tenant_id=row["tenant_id"]), moment)).is_unusual
    ]


def _compared(lines: QuerySet[CostEntry], moment: datetime) -> Comparison:
    return outlook(lines, moment=moment, zone=_UTC).comparison
