"""Allowing tools to a tenant's agents, refusing them, and setting them up."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import JsonValue, ValidationError

from agents_app.core.approving import CallApproval
from agents_app.core.errors import AgentsError
from agents_app.core.tools import Tool
from agents_app.models import ToolGrant
from agents_app.services.agents import FieldProblem


class ToolSettingsRefusedError(AgentsError):
    """The tool cannot be set up like this; all problems are listed."""

    code: ClassVar[str] = "tool_settings_invalid"

    def __init__(self, problems: tuple[FieldProblem, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "; ".join(f"{problem.loc}: {problem.message}" for problem in self.problems)


Approval = Mapping[str, JsonValue] | Literal["unchanged"] | None


def change_grant(
    tool: Tool,
    *,
    allowed: bool | None = None,
    settings: Mapping[str, JsonValue] | None = None,
    approval: Approval = "unchanged",
) -> ToolGrant:
    """Change what is named, and leave the rest. Raises ToolSettingsRefusedError.

    Without an `approval` (None), the tool itself says whether a person has to agree to its calls.
    """
    if settings is not None:
        check_settings(tool, settings)
    if approval is not None and approval != "unchanged":
        approval = checked_approval(approval)
    grant, _ = ToolGrant.objects.get_or_create(
        tool=tool.name, defaults={"is_allowed": not tool.needs_grant}
    )
    if allowed is not None:
        grant.is_allowed = allowed
    if settings is not None:
        grant.settings = dict(settings)
    if approval != "unchanged":
        grant.approval = approval
    grant.save(update_fields=["is_allowed", "settings", "approval", "updated_at"])
    return grant


def checked_approval(approval: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """All of it, with what it leaves out. Raises ToolSettingsRefusedError."""
    try:
        return CallApproval.model_validate(approval).model_dump(mode="json")
    except ValidationError as error:
        raise ToolSettingsRefusedError(_problems(error, at="/approval")) from error


def check_settings(tool: Tool, settings: Mapping[str, JsonValue]) -> None:
    if tool.settings is None:
        if settings:
            problem = FieldProblem("/settings", "unknown_field", "this tool has no settings")
            raise ToolSettingsRefusedError((problem,))
        return
    try:
        tool.settings.model_validate(settings)
    except ValidationError as error:
        raise ToolSettingsRefusedError(_problems(error, at="/settings")) from error


def _problems(error: ValidationError, *, at: str) -> tuple[FieldProblem, ...]:
    return tuple(
        FieldProblem("/".join([at, *map(str, problem["loc"])]), "invalid", problem["msg"])
        for problem in error.errors(include_url=False)
    )
