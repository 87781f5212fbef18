from collections.abc import Mapping
from typing import Any, ClassVar

from costs.core.money import format_usd
from orchestrator.core.errors import OrchestratorError
from orchestrator.core.state import WaitingReason


class LeaseLostError(OrchestratorError):
    """The attempt is no longer the agent run's: somebody else may be at work on it."""

    code: ClassVar[str] = "lease_lost"

    def __init__(self, step: str, attempt: int) -> None:
        super().__init__(step, attempt)
        self.step, self.attempt = step, attempt

    def __str__(self) -> str:
        return f"Attempt {self.attempt} of step {self.step} lost its lease; nothing more is sent."


class RunStoppingError(OrchestratorError):
    """The run is to end: nothing more is begun for it, and what is under way is cut short."""

    code: ClassVar[str] = "run_stopped"

    def __str__(self) -> str:
        return "The run was stopped"


class PlanUnreadableError(OrchestratorError):
    """A version was published by a release whose plans this one cannot read."""

    code: ClassVar[str] = "plan_unreadable"

    def __str__(self) -> str:
        return "This release cannot read the plan of the run's version; publish the workflow again"


class MustWaitError(OrchestratorError):
    """A gate lets the next call through only later: the attempt gives its worker back."""

    code: ClassVar[str] = "must_wait"

    def __init__(self, reason: WaitingReason, gate: str, seconds: float) -> None:
        super().__init__(reason, gate, seconds)
        self.reason, self.gate, self.seconds = reason, gate, seconds

    def __str__(self) -> str:
        return f"It waits for {self.gate}"


class RateLimitedError(OrchestratorError):
    """A gate never lets the call through, or not within the time that its step would wait."""

    code: ClassVar[str] = "rate_limited"

    def __init__(self, gate: str, detail: str) -> None:
        super().__init__(gate, detail)
        self.gate, self.detail = gate, detail

    def __str__(self) -> str:
        return f"{self.gate}: {self.detail}"


class BudgetExceededError(OrchestratorError):
    """A budget has less left than the next call may cost; `refusal` is what `muster_hold` gives."""

    code: ClassVar[str] = "budget_exceeded"

    def __init__(self, refusal: Mapping[str, Any]) -> None:
        super().__init__(refusal)
        self.refusal = refusal

    def __str__(self) -> str:
        facts = {
            name: _usd(self.refusal[name]) for name in ("needs_nano", "spent_nano", "limit_nano")
        }
        name = budget_name(self.refusal)
        return (
            f"{name[0].upper()}{name[1:]} has too little left: {facts['spent_nano']} of "
            f"{facts['limit_nano']} are spent, and the next call may cost {facts['needs_nano']}"
        )


class StepCapError(OrchestratorError):
    """The next call may cost more than the step's own `max_cost_usd` leaves."""

    code: ClassVar[str] = "step_cap_exceeded"

    def __init__(self, limit_nano: int, spent_nano: int, needs_nano: int) -> None:
        super().__init__(limit_nano, spent_nano, needs_nano)
        self.limit_nano, self.spent_nano, self.needs_nano = limit_nano, spent_nano, needs_nano

    def __str__(self) -> str:
        return (
            f"Its `max_cost_usd` of {_usd(self.limit_nano)} is too little: "
            f"{_usd(self.spent_nano)} are spent, and the next call may cost {_usd(self.needs_nano)}"
        )


_PERIODS = {"day": "day", "month": "month"}


def budget_name(refusal: Mapping[str, Any]) -> str:
    """A budget as people are told of it: `the budget "November" (tenant, month 2026-11)`."""
    if refusal["scope"] == "run":
        return "the run's cap"
    owner = f"agent `{refusal['agent']}`" if refusal["scope"] == "agent" else refusal["scope"]
    interval = _PERIODS.get(refusal["interval"])
    period = f", {interval} {refusal['period']}" if interval else ""
    return f'the budget "{refusal["name"]}" ({owner}{period})'


def _usd(nano: int) -> str:
    return f"{format_usd(nano)} USD"
