"""Published workflows as tools: under which name, and what they take."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from django.db.models import QuerySet
from django.db.models.fields.json import KeyTransform

from orchestrator.models import Workflow
from orchestrator.selectors.workflows import workflows_of
from tenants.principals import Principal

# More than any model chooses from.
MOST: Final = 500
# Names that the platform's own tools have.
TAKEN: Final = frozenset({"get_run"})
_LONGEST_NAME: Final = 64
_ID_DIGITS: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowTool:
    """A published workflow as whoever calls tools sees it."""

    name: str
    workflow: UUID
    version: int
    project: str
    description: str
    input_schema: Mapping[str, Any]


def workflow_tools(principal: Principal) -> list[WorkflowTool]:
    """Those that the caller sees, at most MOST of them, by name.

    The name is the workflow's; with its project's before it where that would not be clear.
    """
    return _tools(principal, _names(principal))


def workflow_tool(principal: Principal, name: str) -> WorkflowTool | None:
    """The one of this name; None if there is none among those that the caller sees."""
    named = {found: each for found, each in _names(principal).items() if each == name}
    return next(iter(_tools(principal, named)), None)


def _published(principal: Principal) -> QuerySet[Workflow]:
    rows = workflows_of(principal).filter(current_version__isnull=False)
    return rows.order_by("name", "project__slug")


def _names(principal: Principal) -> dict[UUID, str]:
    """What the tools are called, by their workflows; it depends on which others there are."""
    rows = list(_published(principal).values_list("id", "name", "project__slug")[:MOST])
    counts = Counter(name for _, name, _ in rows)
    return {
        row_id: name
        if counts[name] == 1 and name not in TAKEN
        else _with_project(row_id, name, project)
        for row_id, name, project in rows
    }


def _with_project(row_id: UUID, name: str, project: str) -> str:
    full = f"{project}__{name}"
    if len(full) <= _LONGEST_NAME:
        return full
    digits = row_id.hex[-_ID_DIGITS:]
    return f"{full[: _LONGEST_NAME - len(digits) - 1]}_{digits}"


def _tools(principal: Principal, names: Mapping[UUID, str]) -> list[WorkflowTool]:
    spec = "current_version__spec"
    rows = _published(principal).filter(id__in=list(names))
    shown = rows.annotate(
        takes=KeyTransform("inputs", spec), told=KeyTransform("description", spec)
    )
    return [_tool(row, names[row.id]) for row in shown]


def _tool(row: Any, name: str) -> WorkflowTool:
    return WorkflowTool(
        name=name,
        workflow=row.id,
        version=row.current_version.number,
        project=row.project.slug,
        description=row.told or f"Runs the workflow {row.name}.",
        input_schema={"properties": {}, **(row.takes or {}), "type": "object"},
    )
