"""What a draft costs, as its page shows it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from orchestrator.core.expectation import Expectation, Likely
from orchestrator.core.prices import Note, PlanPrice, StepPrice
from orchestrator.models import Workflow
from orchestrator.selectors.plan_prices import DraftPrice, draft_price

# The dearest; the API has them all.
_STEPS_SHOWN: Final = 60
_NOTES_SHOWN: Final = 5
_OPEN: Final = frozenset({"open_map", "adds_steps", "hands_out", "own_code", "asks_models"})
_UNBOUNDED: Final = "no bound"
_UNKNOWN: Final = "not known"


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedStep:
    price: StepPrice
    likely: Likely | None

    @property
    def unbounded(self) -> str:
        return unbounded(self.price.amounts.notes)


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceCard:
    """`hidden` steps are left out, and so are `more_notes` reasons."""

    hindrance: str = ""
    price: PlanPrice | None = None
    expected: Expectation | None = None
    steps: Sequence[PricedStep] = ()
    hidden: int = 0
    notes: Sequence[Note] = ()
    more_notes: int = 0

    @property
    def unbounded(self) -> str:
        return unbounded(self.price.amounts.notes) if self.price else ""


def price_card(workflow: Workflow, draft: Mapping[str, Any]) -> PriceCard:
    return card_of(draft_price(workflow, draft))


def card_of(found: DraftPrice) -> PriceCard:
    if found.price is None:
        return PriceCard(hindrance=found.hindrance)
    costly = [step for step in found.price.steps if step.amounts.worst != 0]
    notes = found.price.amounts.notes
    return PriceCard(
        price=found.price,
        expected=found.expected,
        steps=[_priced(step, found) for step in _dearest(costly)],
        hidden=max(len(costly) - _STEPS_SHOWN, 0),
        notes=notes[:_NOTES_SHOWN],
        more_notes=max(len(notes) - _NOTES_SHOWN, 0),
    )


def _priced(step: StepPrice, found: DraftPrice) -> PricedStep:
    history = found.history.steps.get(step.name)
    return PricedStep(price=step, likely=history.likely if history else None)


def _dearest(steps: Sequence[StepPrice]) -> Sequence[StepPrice]:
    """In the order of the workflow, if they are not too many."""
    if len(steps) <= _STEPS_SHOWN:
        return steps
    return sorted(steps, key=_worst, reverse=True)[:_STEPS_SHOWN]


def _worst(step: StepPrice) -> float:
    return float("inf") if step.amounts.worst is None else step.amounts.worst


def unbounded(notes: Sequence[Note]) -> str:
    """What stands where there is no worst case."""
    is_known = any(note.code in _OPEN for note in notes)
    return _UNBOUNDED if is_known else _UNKNOWN
