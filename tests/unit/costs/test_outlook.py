from datetime import date, timedelta

import pytest

from costs.core.money import NANO_PER_USD as USD
from costs.core.outlook import compare, forecast
from costs.core.periods import day_start, days_between, month_end, zone_or_none

# A Sunday; the month has nine days left.
TODAY = date(2026, 11, 22)
LONG_AGO = date(2026, 1, 1)


def weekdays(amount: int, *, weekend: int = 0) -> dict[date, int]:
    days = days_between(TODAY - timedelta(days=40), TODAY)
    return {day: weekend if day.weekday() >= 5 else amount for day in days}


def test_forecast_tells_working_days_from_weekends() -> None:
    spent = weekdays(10 * USD, weekend=USD)

    told = forecast(spent, today=TODAY, since=LONG_AGO)

    # So far 15 working days and 6 of weekends; to come today, 6 working days and 2 of a weekend.
    assert told.spent_nano == 156 * USD
    assert told.nano == (156 + 1 + 60 + 2) * USD
    assert told.days == 28


def test_one_odd_day_counts_for_three_usual_ones_at_most() -> None:
    spent = weekdays(10 * USD)
    odd = spent | {date(2026, 11, 3): 1000 * USD}

    usual_rest = forecast(spent, today=TODAY, since=LONG_AGO).nano - 150 * USD
    odd_rest = forecast(odd, today=TODAY, since=LONG_AGO).nano - 1140 * USD

    assert odd_rest == pytest.approx(usual_rest * 22 / 20)


def test_today_counts_for_what_is_usual_or_for_more() -> None:
    monday = TODAY + timedelta(days=1)
    spent = weekdays(10 * USD) | {monday: 4 * USD}
    more = spent | {monday: 25 * USD}

    usual = forecast(spent, today=monday, since=LONG_AGO)
    busy = forecast(more, today=monday, since=LONG_AGO)

    assert busy.nano - usual.nano == 15 * USD


@pytest.mark.parametrize("since", [None, TODAY, TODAY - timedelta(days=2)])
def test_too_few_days_tell_nothing(since: date | None) -> None:
    told = forecast({TODAY: USD}, today=TODAY, since=since)

    assert (told.spent_nano, told.nano) == (USD, None)


def test_days_without_spend_are_history_too() -> None:
    spent = {TODAY - timedelta(days=3): 4 * USD}

    told = forecast(spent, today=TODAY, since=TODAY - timedelta(days=3))

    # Of two working days one was busy; six more are to come.
    assert (told.days, told.nano) == (3, 4 * USD + 12 * USD)


def test_last_day_of_a_month_has_no_days_to_come() -> None:
    last = date(2026, 11, 30)
    spent = dict.fromkeys(days_between(LONG_AGO, last), USD)

    assert forecast(spent, today=last, since=LONG_AGO).nano == 30 * USD


def test_nothing_spent_is_forecast_as_nothing() -> None:
    assert forecast({}, today=TODAY, since=LONG_AGO).nano == 0


def test_usual_day_is_not_unusual() -> None:
    told = compare(12 * USD, [10 * USD, 9 * USD, 11 * USD, 8 * USD, 12 * USD, 10 * USD, 10 * USD])

    assert (told.usual_nano, told.is_unusual) == (10 * USD, False)


def test_day_far_above_the_median_is_unusual() -> None:
    earlier = [10 * USD] * 14

    assert not compare(29 * USD, earlier).is_unusual
    assert compare(30 * USD, earlier).is_unusual


def test_days_that_vary_much_allow_for_more() -> None:
    earlier = [2 * USD, 30 * USD, 5 * USD, 25 * USD, 10 * USD, 18 * USD, 40 * USD]

    assert not compare(80 * USD, earlier).is_unusual


def test_one_odd_day_among_the_earlier_ones_changes_nothing() -> None:
    earlier = [10 * USD] * 13

    assert compare(30 * USD, [*earlier, 5000 * USD]).is_unusual


def test_cents_are_never_unusual() -> None:
    assert not compare(USD - 1, [0] * 14).is_unusual
    assert compare(USD, [0] * 14).is_unusual


def test_few_days_are_not_compared() -> None:
    assert not compare(1000 * USD, [USD] * 6).is_unusual


def test_month_ends_where_the_next_begins() -> None:
    assert month_end(date(2026, 12, 31)) == date(2027, 1, 1)
    assert month_end(date(2028, 2, 1)) == date(2028, 3, 1)


def test_day_begins_where_the_clock_skips_midnight() -> None:
    zone = zone_or_none("Africa/Cairo")

    start = day_start(date(2026, 4, 24), zone)

    assert start.timestamp() == day_start(date(2026, 4, 23), zone).timestamp() + 24 * 3600


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "localtime", "/etc/passwd", "../UTC"])
def test_what_is_no_time_zone_is_none(name: str) -> None:
    assert zone_or_none(name) is None
