"""How many agent runs each tenant may have in flight."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

Key = TypeVar("Key", bound=Hashable)

# With no worker there, for the first that comes.
_LEAST_SLOTS: Final = 8
# Beyond what the workers have slots for, so that none of them waits for its next message: a part
# of the slots, or what ends in the time in which a message gets through.
_LEAST_SPARE: Final = 8
_SPARE_PART: Final = 8
_SPARE_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What a tenant would have in flight if it were alone: `wanted` is that many agent runs."""

    weight: int
    wanted: int


def capacity(*, slots: int, ended_per_second: float) -> int:
    """How many agent runs may be in flight in the whole cluster.

    No more than it takes to keep the workers busy, since whatever comes next queues up behind.
    """
    spare = max(_LEAST_SPARE, slots // _SPARE_PART, round(ended_per_second * _SPARE_SECONDS))
    return max(slots, _LEAST_SLOTS) + spare


def windows(total: int, demands: Mapping[Key, Demand]) -> dict[Key, int]:
    """Weighted max-min fair shares of `total`, at least 1 each.

    By progressive filling (Bertsekas and Gallager, Data Networks, 6.5.2): whoever wants less than
    its part leaves the rest to the others. It may take up to its part all the same, should it
    want more before shares are dealt out again, so that their sum may exceed `total`.
    """
    level = _level(total, list(demands.values()))
    return {key: max(1, min(total, int(level * demand.weight))) for key, demand in demands.items()}


def _level(total: int, demands: list[Demand]) -> float:
    """The share of a weight of 1."""
    left = float(total)
    rest = sorted(demands, key=lambda demand: demand.wanted / demand.weight)
    weights = sum(demand.weight for demand in rest)
    for demand in rest:
        level = left / weights
        if demand.wanted / demand.weight > level:
            return level
        left -= demand.wanted
        weights -= demand.weight
    return float(total)
