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
