"""What a limit may say. Everything that is wrong with one is reported together, at its field."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from zoneinfo import available_timezones

from orchestrator.core.limits.facts import Unit
from orchestrator.core.limits.tiers import Counting, Period
from orchestrator.core.problems import Problem

MOST: Final = 1_000_000_000_000
MOST_CONCURRENT: Final = 100_000
_OUTPUT: Final = frozenset({Unit.OUTPUT.value, Unit.TOTAL.value})


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitDraft:
    """A limit as somebody wrote it. None and empty text mean left out."""

    unit: str
    period: str
    counting: str
    limit: int
    capacity: int | None
    time_zone: str
    provider: str
    model: str


def limit_problems(draft: LimitDraft, *, usual_output: int) -> list[Problem]:
    """All that is wrong. `usual_output` is how much a call may answer that says nothing of it."""
    concurrent = draft.unit == Unit.CONCURRENT
    return [
        *(_of_places(draft) if concurrent else _of_period(draft)),
        *_of_amounts(draft, most=MOST_CONCURRENT if concurrent else MOST),
        *(() if concurrent else _of_need(draft, usual_output)),
        *_of_model(draft),
    ]


def _of_places(draft: LimitDraft) -> Iterator[Problem]:
    if draft.period:
        yield Problem("/period", "not_for_concurrent", "Concurrent calls have no period.")
    if draft.capacity is not None:
        yield Problem("/capacity", "not_for_concurrent", "Concurrent calls have no capacity.")
    if draft.counting != Counting.BUCKET:
        yield Problem(
            "/counting", "not_for_concurrent", "Concurrent calls are counted as they are."
        )
    if draft.time_zone:
        yield Problem("/time_zone", "not_for_concurrent", "Concurrent calls have no time zone.")


def _of_period(draft: LimitDraft) -> Iterator[Problem]:
    if not draft.period:
        yield Problem("/period", "required", "Say per second, minute, hour or day.")
    if draft.counting != Counting.CALENDAR:
        if draft.time_zone:
            message = "Only calendar days have a time zone."
            yield Problem("/time_zone", "not_for_this_counting", message)
        return
    if draft.period and draft.period != Period.DAY:
        yield Problem("/period", "not_a_day", "A calendar counts days; choose day.")
    if not draft.time_zone:
        yield Problem("/time_zone", "required", "Say where the day begins, such as Europe/Berlin.")
    elif draft.time_zone not in available_timezones():
        message = f"There is no time zone {draft.time_zone!r}; write one such as Europe/Berlin."
        yield Problem("/time_zone", "unknown", message)


def _of_amounts(draft: LimitDraft, *, most: int) -> Iterator[Problem]:
    for name, amount in (("limit", draft.limit), ("capacity", draft.capacity)):
        if amount is None:
            continue
        if amount < 1:
            message = "At least 1. To stop calls altogether, suspend the tenant or its key."
            yield Problem(f"/{name}", "too_small", message)
        elif amount > most:
            yield Problem(f"/{name}", "too_large", f"At most {most:,}.")
    if draft.capacity is not None and draft.counting != Counting.BUCKET:
        yield Problem("/capacity", "not_for_this_counting", "Only a bucket gathers what is unused.")


def _of_need(draft: LimitDraft, usual_output: int) -> Iterator[Problem]:
    is_bucket = draft.counting == Counting.BUCKET
    name = "capacity" if is_bucket and draft.capacity is not None else "limit"
    most = draft.capacity if is_bucket and draft.capacity is not None else draft.limit
    if draft.unit in _OUTPUT and 1 <= most < usual_output:
        message = (
            f"A call may answer with {usual_output:,} tokens unless its step says less; "
            "with less than that it would never be let through."
        )
        yield Problem(f"/{name}", "below_one_call", message)


def _of_model(draft: LimitDraft) -> Iterator[Problem]:
    if draft.model and not draft.provider:
        yield Problem("/provider", "required", "Say whose model it is.")
