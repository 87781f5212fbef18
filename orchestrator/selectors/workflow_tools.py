"""Published workflows as tools: under which name, and what they take."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from django.db.models.fields.json import KeyTransform

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
    rows = workflows_of(principal).filter(current_version__isnull=False)
    spec = "current_version__spec"
    shown = rows.annotate(
        takes=KeyTransform("inputs", spec), told=KeyTransform("description", spec)
    )
    found = list(shown.order_by("name", "project__slug")[:MOST])
    names = Counter(row.name for row in found)
    return [_tool(row, is_clear=names[row.name] == 1) for row in found]


def _tool(row: Any, *, is_clear: bool) -> WorkflowTool:
    return WorkflowTool(
        name=row.name if is_clear and row.name not in TAKEN else _with_project(row),
        workflow=row.id,
        version=row.current_version.number,
        project=row.project.slug,
        description=row.told or f"Runs the workflow {row.name}.",
        input_schema={"properties": {}, **(row.takes or {}), "type": "object"},
    )


def _with_project(row: Any) -> str:
    name = f"{row.project.slug}__{row.name}"
    if len(name) <= _LONGEST_NAME:
        return name
    digits = row.id.hex[-_ID_DIGITS:]
    return f"{name[: _LONGEST_NAME - len(digits) - 1]}_{digits}"
