"""The arithmetic of buckets and windows. The Lua does the same, operation by operation.

Amounts are floats with the precision of Lua's numbers, times are microseconds.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Final

from orchestrator.core.limits.tiers import Counting, Tier

# Forgives the rounding of levels that are worked out in fractions; a share of the capacity.
SLACK: Final = 1e-12
# How many grants are told apart by how far the level fell since.
MARKS: Final = 4


@dataclass(slots=True)
class Level:
    """How full a tier is: `used` of it at the time `at`, falling since if it is a bucket.

    For windows `at` is the beginning of the window; for places `used` is how long a call holds
    one on average. `marks` are pairs: the lowest level since a time.
    """

    used: float = 0.0
    at: float = 0.0
    grants: int = 0
    denials: int = 0
    waited_us: float = 0.0
    marks: list[tuple[float, float]] = field(default_factory=list)

    def copy(self) -> "Level":
        return replace(self, marks=list(self.marks))

    def now(self, tier: Tier, now: float) -> float:
        return max(0.0, self.used - tier.limit / tier.period_us * max(0.0, now - self.at))


def window_start(tier: Tier, raw: float) -> float | None:
    """Where the window of a time begins; None if the calendar days given do not reach it."""
    if tier.counting is Counting.WINDOW:
        return math.floor(raw / tier.period_us) * tier.period_us
    found = [day for day in tier.days if day <= raw]
    return found[-1] if found and len(found) < len(tier.days) else None


def window_end(tier: Tier, start: float) -> float:
    if tier.counting is Counting.WINDOW:
        return start + tier.period_us
    return next((float(day) for day in tier.days if day > start), start)


def enter_window(level: Level, start: float) -> None:
    """Begin anew if the window is another. One that lies ahead stays: clocks step back."""
    if level.at < start:
        level.used, level.at = 0.0, start


def wait_in_bucket(tier: Tier, level: Level, *, needed: float, now: float) -> float:
    """Microseconds until so much is there, 0 if it is."""
    missing = level.now(tier, now) + needed - tier.capacity
    if missing <= SLACK * tier.capacity:
        return 0.0
    return math.ceil(max(level.at, now) - now + missing / (tier.limit / tier.period_us))


def wait_in_window(tier: Tier, level: Level, *, needed: float, raw: float) -> float:
    """Microseconds until the window begins in which so much is left, 0 if it is this one."""
    if level.used + needed <= tier.limit:
        return 0.0
    left = max(0.0, tier.limit - level.used)
    windows = math.ceil((needed - left) / tier.limit)
    return max(1.0, window_end(tier, level.at) - raw + (windows - 1) * tier.period_us)


def take(tier: Tier, level: Level, *, amount: float, now: float) -> None:
    """Charge a bucket that has room."""
    before = level.now(tier, now)
    note_low(level, before)
    level.used, level.at = before + amount, now
    level.marks.append((now, level.used))
    if len(level.marks) > MARKS:
        _forget_a_mark(level)


def note_low(level: Level, low: float) -> None:
    """No grant that came before can be given back more than what has not flowed off since."""
    since = None
    while level.marks and level.marks[-1][1] >= low:
        since = level.marks.pop()[0]
    if since is not None and low > 0:
        level.marks.append((since, low))


def correct(tier: Tier, level: Level, *, delta: float, granted_at: float, now: float) -> None:
    """Charge a bucket as if the grant had been estimated right: `delta` more, or less.

    Given back is only what still counts: had the grant been smaller, a bucket that was full
    since would have gathered no more. So settling never lets more through than exact
    estimates would have.
    """
    if delta >= 0:
        level.used += delta
        return
    note_low(level, level.now(tier, now))
    covering = [i for i, (since, _) in enumerate(level.marks) if since <= granted_at]
    if not covering:
        return
    last = covering[-1]
    back = min(-delta, level.marks[last][1])
    level.used -= back
    lowest = level.marks[last][1] - back
    marks = level.marks
    level.marks = []
    for index, (since, low) in enumerate(marks):
        _add_mark(level, since, low - back if index >= last else min(low, lowest))


def _add_mark(level: Level, since: float, low: float) -> None:
    if low <= 0:
        level.marks = []
        return
    while level.marks and level.marks[-1][1] >= low:
        since = level.marks.pop()[0]
    level.marks.append((since, low))


def _forget_a_mark(level: Level) -> None:
    """Give up the mark that differs least from the one before it."""
    gaps = [b[1] - a[1] for a, b in zip(level.marks, level.marks[1:], strict=False)]
    del level.marks[gaps.index(min(gaps)) + 1]
