"""How much a minute is far above what a run or a tenant usually spends.

Judged by what calls have cost, not by what they hold: a hold is a worst case, and many cheap calls
at a time hold a lot. Amounts are nano-USD a minute.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Final
from uuid import UUID

from costs.core.money import format_usd

# Fewer ended runs, or minutes with spend, say nothing of what is usual.
ENOUGH_RUNS: Final = 3
ENOUGH_MINUTES: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """From where on spend is out of the ordinary: `factor` times the usual, but not below `floor`.

    `floor` is what every run may spend a minute, so that small runs never are. Where nothing is
    known, and for a tenant as a whole, it is `factor` times as much.
    """

    factor: int
    floor: int

    def run_limit(self, usual: int | None) -> int:
        """What a run may spend a minute; `usual` is None for a workflow without a history."""
        if usual is None:
            return self.factor * self.floor
        return max(self.floor, self.factor * usual)

    def tenant_limit(self, usual: int | None) -> int:
        """What the runs of a tenant may spend a minute together, whose median minute is `usual`."""
        return self.factor * max(self.floor, usual or 0)


def usual_of_tenant(median: int | None, *, minutes: int) -> int | None:
    """What a tenant usually spends in a minute with spend; None if too few are known."""
    return median if minutes >= ENOUGH_MINUTES else None


def usual_of_workflow(busiest: Sequence[int]) -> int | None:
    """What a run of a workflow usually spends in its busiest minute, from its ended runs.

    The median: one run that went wild, with or without a person's yes, does not make it usual.
    None if there are too few.
    """
    return median_low(busiest) if len(busiest) >= ENOUGH_RUNS else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """What a run has spent in the last minute, with the runs that it started.

    `is_going`: it can be paused. `is_judged`: neither has a person agreed to its spend, nor waits
    it for one.
    """

    tenant_id: UUID
    run_id: UUID
    workflow_id: UUID
    spent: int
    is_going: bool
    is_judged: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Excess:
    """A run that is to be paused: for what it has spent itself, or the tenant's runs together."""

    run: Spending
    scope: str
    spent: int
    limit: int
    usual: int | None

    @property
    def facts(self) -> dict[str, str | int | None]:
        facts: dict[str, str | int | None] = {"scope": self.scope, "spent_nano": self.spent}
        return facts | {"limit_nano": self.limit, "usual_nano": self.usual}

    @property
    def reason(self) -> str:
        """What people read: the figures, and what to do."""
        return f"{self._what()}, and {self._limit()}. Resume it if that is right, or cancel it"

    def _what(self) -> str:
        spent = f"spent {format_usd(self.spent)} USD in the last minute"
        if self.scope == "run":
            return f"It {spent}"
        return f"The tenant's runs {spent}, this one {format_usd(self.run.spent)} USD"

    def _limit(self) -> str:
        allowed = f"more than {format_usd(self.limit)} USD asks for a person's yes"
        if self.usual is None:
            return f"{allowed} as long as little is known of what is usual"
        return f"{allowed}, since {format_usd(self.usual)} USD are usual"


def too_fast(run: Spending, *, pace: Pace, usual: int | None) -> Excess | None:
    """Why a run is to be paused for what it spends by itself, if it is."""
    limit = pace.run_limit(usual)
    if not (run.is_going and run.is_judged) or run.spent <= limit:
        return None
    return Excess(run=run, scope="run", spent=run.spent, limit=limit, usual=usual)


def together_too_fast(runs: Sequence[Spending], *, pace: Pace, usual: int | None) -> list[Excess]:
    """Which of a tenant's runs are to be paused for what they spend together."""
    limit = pace.tenant_limit(usual)
    spent = sum(run.spent for run in runs if run.is_judged)
    return [
        Excess(run=run, scope="tenant", spent=spent, limit=limit, usual=usual)
        for run in _dearest(runs, above=spent - limit)
    ]


def _dearest(runs: Iterable[Spending], *, above: int) -> Iterator[Spending]:
    """The dearest first, and no more than it takes: runs that spend little go on.

    What has ended counts above and cannot be paused, so that many short runs are noticed too.
    """
    for run in sorted(runs, key=lambda run: (-run.spent, run.run_id)):
        if above <= 0 or run.spent <= 0:
            return
        if run.is_going and run.is_judged:
            yield run
            above -= run.spent
