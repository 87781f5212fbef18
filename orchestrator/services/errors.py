from collections.abc import Sequence
from typing import ClassVar

from orchestrator.core.errors import OrchestratorError
from orchestrator.core.problems import Problem


class NotPublishedError(OrchestratorError):
    """The workflow has only a draft; runs use published versions."""

    code: ClassVar[str] = "not_published"

    def __init__(self, workflow: str) -> None:
        super().__init__(workflow)
        self.workflow = workflow

    def __str__(self) -> str:
        return f"Workflow {self.workflow} has no published version; publish it first."


class InputInvalidError(OrchestratorError):
    """The run's input does not fit the workflow's input schema; all problems are listed."""

    code: ClassVar[str] = "invalid_input"

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(problems)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)
