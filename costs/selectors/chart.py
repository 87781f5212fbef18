"""A summary by day and group as a chart shows it: the largest groups, and all others as one."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from costs.core.periods import days_between
from costs.selectors.reports import Group, Summary, SummaryRow

SHOWN: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """What one group cost on each day. `number` is its place in the palette, from 1."""

    number: int
    label: str
    costs: Sequence[int]
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartDay:
    day: date
    costs: Sequence[int]
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    series: Sequence[Series]
    days: Sequence[ChartDay]
    total: int


def chart(by_day: Summary, *, group: Group) -> Chart:
    """The dearest groups first, without those that cost nothing; and every day of the range."""
    first = by_day.since.astimezone(by_day.zone).date()
    last = (by_day.until - timedelta(microseconds=1)).astimezone(by_day.zone).date()
    days = days_between(first, last + timedelta(days=1))
    costs: dict[str, dict[date, int]] = defaultdict(lambda: defaultdict(int))
    for row in by_day.rows:
        costs[label_of(row, group)][row.key["day"]] += row.figures.cost
    totals = {label: sum(found.values()) for label, found in costs.items()}
    by_cost = sorted(filter(totals.get, totals), key=lambda label: (-totals[label], label))
    shown, others = by_cost[:SHOWN], by_cost[SHOWN:]
    values = [(label, [costs[label][day] for day in days]) for label in shown]
    if others:
        rest = [sum(costs[label][day] for label in others) for day in days]
        values.append((f"{len(others)} more", rest))
    series = [
        Series(number=number, label=label, costs=found, total=sum(found))
        for number, (label, found) in enumerate(values, 1)
    ]
    rows = [_day(day, [each.costs[index] for each in series]) for index, day in enumerate(days)]
    return Chart(series=series, days=rows, total=by_day.total.cost)


def label_of(row: SummaryRow, group: Group) -> str:
    """What people call a group."""
    if group is Group.MODEL:
        return f"{row.key['provider']} {row.key['model']}"
    name = row.key[group] or row.key.get(f"{group}_id") or "none"
    return str(name)


def _day(day: date, costs: list[int]) -> ChartDay:
    return ChartDay(day=day, costs=costs, total=sum(costs))
