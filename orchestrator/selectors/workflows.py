from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet

from orchestrator.core import graph
from orchestrator.core.parsing import spec_from_mapping
from orchestrator.models import Workflow
from tenants.principals import Principal
from tenants.selectors.projects import named, project_for
from tenants.services.errors import AmbiguousError, NotFoundError


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Facts about a workflow's graph."""

    strategy: str
    levels: list[list[str]]
    entry_steps: list[str]
    exit_steps: list[str]
    critical_path: tuple[str, ...]
    widest_level: list[str]


def workflows_of(principal: Principal) -> QuerySet[Workflow]:
    """The workflows that a caller sees, without the weight of their versions."""
    rows = Workflow.objects.select_related("project", "current_version").defer(
        "current_version__spec", "current_version__plan"
    )
    return rows if principal.project_id is None else rows.filter(project_id=principal.project_id)


def workflows_like(
    principal: Principal, *, project: str | None = None, name: str | None = None
) -> QuerySet[Workflow]:
    rows = workflows_of(principal)
    if project is not None:
        rows = rows.filter(in_project(project))
    return rows if name is None else rows.filter(name=name)


def in_project(reference: str) -> Any:
    return named(reference, by="project__slug", id_field="project_id")


def workflow_for(principal: Principal, reference: str, *, project: str | None) -> Workflow:
    """The workflow named by name or id; a name that several projects use needs the project."""
    rows = workflows_of(principal).filter(named(reference, by="name"))
    if project is not None:
        rows = rows.filter(project=project_for(principal, project))
    found = list(rows[:2])
    if not found:
        raise NotFoundError("workflow", reference, "/workflow")
    if len(found) > 1:
        raise AmbiguousError(f"Several projects have a workflow {reference!r}.", "/project")
    return found[0]


def shape_of(draft: Mapping[str, Any]) -> Shape:
    """The graph of what `draft_spec` gives. Raises WorkflowInvalidError, for a cycle too."""
    spec = spec_from_mapping(draft)
    needs = {step.name: step.needs for step in spec.steps}
    return Shape(
        strategy=spec.strategy,
        levels=graph.levels(needs),
        entry_steps=graph.entry_steps(needs),
        exit_steps=graph.exit_steps(needs),
        critical_path=graph.critical_path(needs),
        widest_level=graph.widest_level(needs),
    )
