"""How well an agent run did, in four figures that compare models, agents and days.

The formulas stand in docs/api.md too. A figure is None where it would say nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from costs.core.money import EXACT, usd_from_nano

# Completion tokens per second: what a reader skims, and what a reader keeps up with.
TIERS: Final = ((60.0, "high"), (20.0, "medium"), (0.0, "low"))
_PLACES_OF_COST = Decimal("1e-15")


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What an agent run took. Seconds are wall time; None stands for what never was.

    `call_seconds` were spent in answered calls, `useful_seconds` in the attempt that completed,
    `life_seconds` from being queued to its end.
    """

    completion_tokens: int
    total_tokens: int
    cost_nano: int
    call_seconds: float | None
    useful_seconds: float | None
    life_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Performance:
    tokens_per_second: float | None
    cost_per_token: str | None  # USD
    efficiency_score: float | None  # 0 to 100
    throughput_tier: str | None


def performance(work: Work) -> Performance:
    speed = tokens_per_second(work)
    return Performance(
        tokens_per_second=speed,
        cost_per_token=cost_per_token(work),
        efficiency_score=efficiency_score(work),
        throughput_tier=throughput_tier(speed),
    )


def tokens_per_second(work: Work) -> float | None:
    """Completion tokens per second of answered calls: the model's speed, waits left out."""
    if work.call_seconds is None or work.call_seconds <= 0 or not work.completion_tokens:
        return None
    return round(work.completion_tokens / work.call_seconds, 2)


def cost_per_token(work: Work) -> str | None:
    """All that was paid, failed attempts included, for each token in or out."""
    if not work.total_tokens:
        return None
    price = EXACT.divide(usd_from_nano(work.cost_nano), Decimal(work.total_tokens))
    text = f"{price.quantize(_PLACES_OF_COST, context=EXACT):f}"
    return text.rstrip("0").rstrip(".")


def efficiency_score(work: Work) -> float | None:
    """The share of an agent run's life that led to its output, in percent.

    Queueing, waiting and attempts that failed lower it; what never completed scores 0.
    """
    if work.life_seconds is None:
        return None
    useful = work.useful_seconds or 0.0
    if not useful:
        return 0.0
    return round(100 * useful / max(work.life_seconds, useful), 1)


def throughput_tier(speed: float | None) -> str | None:
    if speed is None:
        return None
    return next(tier for least, tier in TIERS if speed >= least)
