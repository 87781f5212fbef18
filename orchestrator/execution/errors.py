from typing import ClassVar

from orchestrator.core.errors import OrchestratorError


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
