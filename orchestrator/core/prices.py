"""The price of a plan: its figures, and what they depend on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal

from agents_app.core.tools import Tool
from costs.core.pricing import Price
from orchestrator.core.plan import Plan
from orchestrator.core.schema import Schema

Runs = Literal["always", "maybe", "never"]
InputBound = Literal["prompt", "context_window", "rendered_prompt"]


@dataclass(frozen=True, slots=True)
class Note:
    """Why a worst case has no bound, or is not known. `step` is the place of the step."""

    step: str
    code: Literal[
        "no_price", "open_map", "adds_steps", "hands_out", "own_code", "asks_models", "no_agent"
    ]
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Priceable:
    """A workflow as it is to run, and the JSON Schema of its input."""

    plan: Plan
    inputs: Schema | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """Whom an agent hands tasks to, and what each may cost: nano-USD, None if it does not say."""

    delegates: tuple[str, ...] = ()
    has_others: bool = False  # workflows, or agents that are made for a task
    each_nano: int | None = None

    @property
    def hands_out(self) -> bool:
        return bool(self.delegates) or self.has_others


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What prices depend on beside the plan. `attempts`: of steps that do not say themselves.

    `tool_of` gives a tool by its name, and `team_of` whom a saved agent hands tasks to.
    """

    price_of: Callable[[str, str], Price | None]  # by provider and model
    window_of: Callable[[str, str], int | None]  # the tokens that a model reads
    workflow_of: Callable[[str], Priceable]  # by the id of a version
    attempts: int
    max_added_steps: int
    tool_of: Callable[[str], Tool | None] = lambda _: None
    team_of: Callable[[str], Team] = lambda _: Team()


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """In nano-USD. None: without bound, or not known.

    `hold` is the most that has to be set aside for a call on the cheapest way.
    """

    worst: int | None = 0
    least: int | None = 0
    hold: int = 0
    calls: int | None = 0  # at most
    notes: tuple[Note, ...] = ()

    def times(self, count: int | None, *, least: int) -> Amounts:
        """For so many of them, of which the cheapest way takes `least`."""
        return Amounts(
            worst=_times(self.worst, count),
            least=_times(self.least, least),
            hold=self.hold if least else 0,
            calls=_times(self.calls, count),
            notes=self.notes,
        )

    def capped(self, most: int | None) -> Amounts:
        """If no more than this may be spent. What nobody could bound otherwise is bounded then."""
        if most is None or (self.worst is not None and self.worst <= most):
            return self
        notes = () if self.worst is None else self.notes
        return replace(self, worst=most, notes=notes)

    @property
    def skippable(self) -> Amounts:
        return replace(self, least=0, hold=0)


NOTHING: Final = Amounts()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPrice:
    """What a step adds to its run: `least` is what the cheapest way pays for it.

    `item_worst` is that of one item of a map. `input_tokens` bound what a call of the step itself
    reads, and `input_bound` tells what that is the length of.
    """

    name: str
    kind: str
    provider: str | None
    model: str | None
    runs: Runs
    amounts: Amounts = NOTHING
    item_worst: int | None = None
    input_tokens: int | None = None
    input_bound: InputBound | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanPrice:
    steps: tuple[StepPrice, ...]
    amounts: Amounts

    @property
    def least_cap(self) -> int | None:
        """The smallest cap that the cheapest way fits: what a call may cost is set aside first."""
        least = self.amounts.least
        return None if least is None else max(least, self.amounts.hold)


def _times(amount: int | None, count: int | None) -> int | None:
    if 0 in (amount, count):
        return 0
    return None if amount is None or count is None else amount * count
