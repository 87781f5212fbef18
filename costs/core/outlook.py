"""What a month will have cost, and whether a day is out of the ordinary. Amounts are nano-USD.

Both look at the last weeks only, by medians, so that one odd day changes neither.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from costs.core.money import NANO_PER_USD
from costs.core.periods import days_between, month_end, month_start

HISTORY_DAYS: Final = 28
# Fewer say nothing: neither of a month nor of what is usual.
LEAST_DAYS_TO_FORECAST: Final = 3
LEAST_DAYS_TO_COMPARE: Final = 7
# A day counts for no more than so many times the median of the days on which anything was spent.
_CAP: Final = 3
# Out of the ordinary: so many deviations above the median, and so many times it, and so much.
_DEVIATIONS: Final = 6
_TIMES: Final = 3
LEAST_UNUSUAL_NANO: Final = NANO_PER_USD
# What makes the median deviation comparable with a standard deviation.
_TO_SIGMA: Final = 1.4826


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """`nano` is None while there are too few days to tell; `days` is how many it rests on."""

    spent_nano: int
    nano: int | None
    days: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Spend since midnight, and what is usual by the same time of day (None: too few days)."""

    spent_nano: int
    usual_nano: int | None
    from_nano: int | None  # unusual from here on
    days: int

    @property
    def is_unusual(self) -> bool:
        return self.from_nano is not None and self.spent_nano >= self.from_nano


def forecast(spent: Mapping[date, int], *, today: date, since: date | None) -> Forecast:
    """What will have been spent by the end of the month of `today`.

    What was spent so far, and for each day that is left the mean of the last four weeks' days of
    its kind: working days and weekends differ more than weeks do. `spent` holds each day on which
    something was, `since` is the first day of all; days before it are no history.
    """
    month = [day for day in spent if month_start(today) <= day <= today]
    so_far = sum(spent[day] for day in month)
    past = _history(spent, today=today, since=since)
    if len(past) < LEAST_DAYS_TO_FORECAST:
        return Forecast(spent_nano=so_far, nano=None, days=len(past))
    rest_of_today = max(0, _expected(today, past) - spent.get(today, 0))
    to_come = days_between(today + timedelta(days=1), month_end(today))
    expected = sum(_expected(day, past) for day in to_come)
    return Forecast(spent_nano=so_far, nano=so_far + rest_of_today + expected, days=len(past))


def compare(today_nano: int, earlier: Sequence[int]) -> Comparison:
    """Today's spend so far against that of earlier days by the same time of day."""
    if len(earlier) < LEAST_DAYS_TO_COMPARE:
        return Comparison(spent_nano=today_nano, usual_nano=None, from_nano=None, days=len(earlier))
    usual = round(statistics.median(earlier))
    deviation = statistics.median(abs(amount - usual) for amount in earlier) * _TO_SIGMA
    threshold = max(usual + round(_DEVIATIONS * deviation), _TIMES * usual, LEAST_UNUSUAL_NANO)
    return Comparison(
        spent_nano=today_nano, usual_nano=usual, from_nano=threshold, days=len(earlier)
    )


def history_start(today: date, since: date | None) -> date:
    """The first day that counts as history."""
    earliest = today - timedelta(days=HISTORY_DAYS)
    return today if since is None else max(since, earliest)


def _history(spent: Mapping[date, int], *, today: date, since: date | None) -> dict[date, int]:
    """Every whole day that counts, those without any spend too; none above the cap."""
    days = days_between(history_start(today, since), today)
    busy = [spent[day] for day in days if spent.get(day, 0) > 0]
    cap = _CAP * round(statistics.median(busy)) if busy else 0
    return {day: min(spent.get(day, 0), cap) for day in days}


def _expected(day: date, past: Mapping[date, int]) -> int:
    alike = [amount for other, amount in past.items() if _is_weekend(other) == _is_weekend(day)]
    return round(statistics.fmean(alike or past.values()))


def _is_weekend(day: date) -> bool:
    return day.weekday() >= 5
