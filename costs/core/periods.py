"""Days and months as a time zone has them."""

import calendar
from datetime import date, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones


def zone_or_none(name: str) -> ZoneInfo | None:
    """The time zone of that name; None if there is none that both we and the database know."""
    return ZoneInfo(name) if name in _zones() else None


def day_start(day: date, zone: ZoneInfo) -> datetime:
    """The first moment of a day, also where the clock is put forward at midnight."""
    return datetime.combine(day, time(), zone)


def month_start(day: date) -> date:
    return day.replace(day=1)


def month_end(day: date) -> date:
    """The first day after the month."""
    days = calendar.monthrange(day.year, day.month)[1]
    return day.replace(day=days) + timedelta(days=1)


def days_between(first: date, end: date) -> list[date]:
    """Each day from `first` on, `end` excluded."""
    return [first + timedelta(days=number) for number in range((end - first).days)]


@cache
def _zones() -> frozenset[str]:
    # Left out: what stands for this machine's own clock, which is no place on the map.
    return frozenset(available_timezones() - {"localtime", "Factory", "posixrules"})
