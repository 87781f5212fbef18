"""Limits as the limiter applies them: tiers, grouped by what they limit."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from orchestrator.core.limits.facts import Unit

SECOND_US: Final = 1_000_000


class Period(StrEnum):
    SECOND = "second"
    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"


PERIOD_SECONDS: Final[Mapping[Period, int]] = {
    Period.SECOND: 1,
    Period.MINUTE: 60,
    Period.HOUR: 3600,
    Period.DAY: 86400,
}


class Counting(StrEnum):
    """How a period is counted."""

    BUCKET = "bucket"  # refills steadily; what is unused gathers up to the capacity
    WINDOW = "window"  # begins anew with every full second, minute, hour or UTC day
    CALENDAR = "calendar"  # a day that begins at midnight in a time zone
    CONCURRENT = "concurrent"  # places, taken for as long as a call lasts


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """One limit. Times are microseconds; `period_us` is 0 for places.

    `limit` is what a period grants, `capacity` what a bucket gathers at most. `days` are the
    beginnings of the calendar days around now, in order.
    """

    key: str
    name: str
    unit: Unit
    counting: Counting
    limit: int
    capacity: int
    period_us: int
    days: tuple[int, ...] = ()

    @property
    def rate(self) -> float:
        """Units a microsecond."""
        return self.limit / self.period_us

    @property
    def most(self) -> int:
        """More than this is never granted to one call."""
        return self.capacity if self.counting is Counting.BUCKET else self.limit

    @property
    def is_long(self) -> bool:
        """Whether what it has granted is looked up in the rows if it is not known any more."""
        return self.period_us >= PERIOD_SECONDS[Period.HOUR] * SECOND_US

    @property
    def memory_us(self) -> int:
        """After this time without a call nothing of it needs to be remembered."""
        if self.counting is Counting.BUCKET:
            return math.ceil(self.capacity / self.rate)
        return 2 * self.period_us


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitedScope:
    """Tiers that share a place in line: those of a model, a key, a tenant, a project and so on.

    `key` tells it apart from all others, `name` is for people.
    """

    key: str
    name: str
    tiers: tuple[Tier, ...] = ()

    def gate(self, tier: int | None) -> str:
        """What people read: the scope and its tier, or its pause."""
        return f"{self.name} {'pause' if tier is None else self.tiers[tier].name}"
