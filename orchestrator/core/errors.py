"""The errors of the orchestrator. Each carries its facts as arguments and reads as a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from tenants.kernel.errors import PlatformError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.core.problems import Problem


class OrchestratorError(PlatformError):
    code: ClassVar[str] = "orchestrator_error"


class SpecSyntaxError(OrchestratorError):
    """The text is not readable as YAML or JSON. Lines and columns count from 1; 0 is unknown."""

    code: ClassVar[str] = "unreadable_spec"

    def __init__(self, message: str, line: int = 0, column: int = 0) -> None:
        super().__init__(message, line, column)
        self.message, self.line, self.column = message, line, column

    def __str__(self) -> str:
        if not self.line:
            return self.message
        return f"line {self.line}, column {self.column}: {self.message}"


class WorkflowInvalidError(OrchestratorError):
    """The workflow has problems, all of which are listed."""

    code: ClassVar[str] = "workflow_invalid"

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(problems)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        count = len(self.problems)
        lines = [f"{count} problem{'s' if count != 1 else ''}"]
        return "\n".join([*lines, *(f"  {problem}" for problem in self.problems)])


class BundleInvalidError(WorkflowInvalidError):
    """A bundle cannot be taken out or put in as it is; all problems are listed."""

    code: ClassVar[str] = "bundle_invalid"


class CyclicWorkflowError(WorkflowInvalidError):
    """Steps wait for each other. `steps` is the cycle, its first step repeated at the end."""

    code: ClassVar[str] = "cycle"

    def __init__(self, steps: Sequence[str]) -> None:
        # The arguments must rebuild the error, so the root's constructor is called directly.
        Exception.__init__(self, steps)
        self.steps = tuple(steps)
        self.problems = ()

    def __str__(self) -> str:
        return f"Steps wait for each other: {' -> '.join(self.steps)}"


class IllegalTransitionError(OrchestratorError):
    """A run or an agent run was asked to change to a state that its state does not allow."""

    code: ClassVar[str] = "illegal_transition"

    def __init__(self, kind: str, source: str, target: str) -> None:
        super().__init__(kind, source, target)
        self.kind, self.source, self.target = kind, source, target

    def __str__(self) -> str:
        return f"A {self.kind} that is {self.source} cannot become {self.target}"


class TemplateError(OrchestratorError):
    """A `${...}` cannot be read or rendered."""

    code: ClassVar[str] = "template_error"


class TemplateSyntaxError(TemplateError):
    code: ClassVar[str] = "template_syntax"


class MissingVariableError(TemplateError):
    """`path` leads nowhere; `available` is what exists where it got lost."""

    code: ClassVar[str] = "missing_variable"

    def __init__(self, path: str, found: str, available: Sequence[str]) -> None:
        super().__init__(path, found, available)
        self.path, self.found, self.available = path, found, tuple(available)

    def __str__(self) -> str:
        place = f"`{self.found}`" if self.found else "the variables"
        names = ", ".join(self.available) or "nothing"
        return f"`{self.path}` does not exist: {place} offers {names}"


class TemplateTooLargeError(TemplateError):
    code: ClassVar[str] = "template_too_large"


class MapError(OrchestratorError):
    """A map has no usable list, or more of its items failed than it accepts."""

    code: ClassVar[str] = "map_failed"


class ConditionError(OrchestratorError):
    """A CEL condition cannot be read, is not allowed, or failed on its input."""

    code: ClassVar[str] = "condition_error"


class AddedStepsError(OrchestratorError):
    """An agent wants steps added that cannot be, or more than a run may have."""

    code: ClassVar[str] = "added_steps_invalid"


class TooManyAddedStepsError(AddedStepsError):
    code: ClassVar[str] = "too_many_added_steps"

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self.most = most

    def __str__(self) -> str:
        return (
            f"Its steps are more than may be added to a run: {self.most} (MUSTER_MAX_ADDED_STEPS)"
        )


class NoCapableAgentError(OrchestratorError):
    """Nobody can take a step that names a capability."""

    code: ClassVar[str] = "no_capable_agent"

    def __init__(self, capability: str) -> None:
        super().__init__(capability)
        self.capability = capability

    def __str__(self) -> str:
        return (
            f"No agent that has the capability {self.capability!r} can take this step now; "
            "give it to one that is allowed and has a provider it may call"
        )
