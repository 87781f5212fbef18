"""What a run is likely to cost and to take, from how its steps have fared before.

Means add up, whatever the steps have to do with each other. The 95th percentile of a sum is not the
sum of those of its parts: it is read from whole runs where enough of them had just these steps, and
else from draws that take every step's cost from its own history, as if steps knew nothing of each
other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from statistics import median, quantiles
from typing import Final, Literal

from orchestrator.core import graph
from orchestrator.core.plan import Plan, PlannedStep
from orchestrator.core.prices import PlanPrice

# So many runs tell more than draws do.
ENOUGH_RUNS: Final = 5
# The sum of many steps strays little, so that fewer draws tell as much.
_MOST_DRAWS: Final = 2_000
_LEAST_DRAWS: Final = 100
_DRAWN_STEPS: Final = 400_000
# The same history gives the same figures.
_SEED: Final = 20_260_101


@dataclass(frozen=True, slots=True, kw_only=True)
class Likely:
    """Nano-USD and seconds in the middle of those seen, and where only 1 of 20 lies above.

    `count` runs are behind the costs; seconds are None where nothing has completed.
    """

    count: int
    mean_nano: int
    p50_nano: int
    p95_nano: int
    p50_seconds: float | None = None
    p95_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepHistory:
    """How a step fared with all its items and rounds, run by run.

    `likely` looks at the runs in which it ran, of the `seen` ones that had it; `samples` has its
    cost in all of these, 0 where it was skipped.
    """

    likely: Likely | None
    seen: int = 0
    samples: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    steps: Mapping[str, StepHistory] = field(default_factory=dict)
    runs: Likely | None = None  # those that had just the steps of the plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """`seconds` is the sum of medians along `critical_path`; None where one is not known.

    `missing` are the steps that may cost something and have no history; with them there is no
    total, since a part of it would pass for the whole.
    """

    method: Literal["runs", "draws"] | None
    total: Likely | None
    seconds: float | None
    critical_path: tuple[str, ...]
    missing: tuple[str, ...]


def expectation(plan: Plan, price: PlanPrice, history: History) -> Expectation:
    costly = [step for step in price.steps if step.runs != "never" and step.amounts.worst != 0]
    missing = tuple(step.name for step in costly if step.name not in history.steps)
    seconds, path = _duration(plan, history)
    method, total = _total([step.name for step in costly], missing, history)
    return Expectation(
        method=method, total=total, seconds=seconds, critical_path=path, missing=missing
    )


def _total(
    costly: list[str], missing: tuple[str, ...], history: History
) -> tuple[Literal["runs", "draws"] | None, Likely | None]:
    runs = history.runs
    if runs is not None and runs.count >= ENOUGH_RUNS:
        return "runs", runs
    if missing or not history.steps:
        return None, None
    return "draws", drawn([history.steps[name].samples for name in costly])


def drawn(samples: Iterable[tuple[int, ...]]) -> Likely:
    """The sum of one draw from each, over and over."""
    found = list(samples)
    number = min(max(_DRAWN_STEPS // max(len(found), 1), _LEAST_DRAWS), _MOST_DRAWS)
    random = Random(_SEED)  # noqa: S311 - foretells costs, guards nothing
    draws = [random.choices(each, k=number) for each in found]
    sums = [sum(parts) for parts in zip(*draws, strict=True)] or [0]
    return Likely(
        count=min(map(len, found), default=0),
        mean_nano=round(sum(sum(each) / len(each) for each in found)),
        p50_nano=round(median(sums)),
        p95_nano=round(_p95(sums)),
    )


def _p95(values: list[int]) -> float:
    """As `percentile_cont` of PostgreSQL has it."""
    return quantiles(values, n=20, method="inclusive")[-1] if len(values) > 1 else values[0]


def _duration(plan: Plan, history: History) -> tuple[float | None, tuple[str, ...]]:
    """How long the plan takes if every step takes its median, and the chain that decides it."""
    known = {step.name: _seconds(step, history) for step in plan.steps}
    given = {name: seconds for name, seconds in known.items() if seconds is not None}
    if not history.steps or len(given) < len(known):
        return None, ()
    timing = graph.timing({step.name: step.needs for step in plan.steps}, given)
    if plan.strategy == "adaptive":
        return timing.critical, timing.critical_path
    slowest = [max(level, key=lambda step: given[step.name]).name for level in plan.levels]
    return sum(given[name] for name in slowest), tuple(slowest)


def _seconds(step: PlannedStep, history: History) -> float | None:
    found = history.steps.get(step.name)
    if found is None:
        return float(step.delay_seconds) if step.kind == "delay" and not step.map else None
    # It was skipped whenever it could have run.
    return 0.0 if found.likely is None else found.likely.p50_seconds
