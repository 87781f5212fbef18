"""A draft's rows and its spec, converted into each other without loss.

Fields that people edit have columns; the rest of the spec lies in `settings` under its own
names. A column that is null stands for a key that the author left out.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.core.errors import WorkflowInvalidError
from orchestrator.core.parsing import spec_from_mapping, spec_to_mapping
from orchestrator.core.problems import Problem
from orchestrator.core.spec import FORMAT_VERSION
from orchestrator.models import Step, Workflow
from tenants.models import Project

Spec = Mapping[str, Any]

WORKFLOW_COLUMNS = (
    "description",
    "module",
    "strategy",
    "max_parallel",
    "inputs",
    "defaults",
    "output",
)
STEP_COLUMNS = (
    "description",
    "needs",
    "agent",
    "provider",
    "model",
    "system",
    "prompt",
    "tools",
    "parameters",
    "output_schema",
    "timeout",
    "priority",
)


def save_draft(*, project: Project, spec: Spec, workflow: Workflow | None = None) -> Workflow:
    """Create a draft, or make an existing one equal to the spec; steps keep their rows by name.

    Raises WorkflowInvalidError if the mapping is not a spec at all, or if its name is taken.
    A draft may still be unfit to publish: see `workflows.validate_spec`.
    """
    written = spec_to_mapping(spec_from_mapping(spec))
    draft = workflow or Workflow(project=project)
    draft.name = str(written["name"])
    _refuse_taken_name(draft)
    _fill(draft, written, WORKFLOW_COLUMNS, left_out=("muster", "name", "steps"))
    draft.save()
    _save_steps(draft, steps_of(written))
    return draft


def draft_spec(workflow: Workflow) -> dict[str, Any]:
    """The draft as its author would write it, steps in their order."""
    steps = {step.name: step_spec(step) for step in workflow.steps.all()}
    header = {"muster": FORMAT_VERSION, "name": workflow.name}
    return {**header, **_columns(workflow, WORKFLOW_COLUMNS), **workflow.settings, "steps": steps}


def step_spec(step: Step) -> dict[str, Any]:
    return {**_columns(step, STEP_COLUMNS), **step.settings}


def steps_of(spec: Spec) -> list[tuple[str, Spec]]:
    """Name and body of each step, whether the spec lists them or maps them by name."""
    steps = spec["steps"]
    if isinstance(steps, Mapping):
        return list(steps.items())
    return [(step["name"], {k: v for k, v in step.items() if k != "name"}) for step in steps]


def _refuse_taken_name(draft: Workflow) -> None:
    others = Workflow.objects.filter(project_id=draft.project_id, name=draft.name)
    if others.exclude(id=draft.id).exists():
        message = f"The project has a workflow {draft.name!r} already; choose another name"
        raise WorkflowInvalidError([Problem("/name", "already_exists", message)])


def _save_steps(draft: Workflow, steps: Sequence[tuple[str, Spec]]) -> None:
    existing = {step.name: step for step in draft.steps.all()}
    draft.steps.exclude(name__in=[name for name, _ in steps]).delete()
    made: list[Step] = []
    changed: list[Step] = []
    for position, (name, body) in enumerate(steps):
        step = existing.get(name)
        before = None if step is None else (step.position, step_spec(step))
        if before == (position, body):
            continue
        row = step or Step(workflow=draft, name=name)
        row.position = position
        _fill(row, body, STEP_COLUMNS)
        (changed if step else made).append(row)
    Step.objects.bulk_create(made)
    Step.objects.bulk_update(changed, ["position", "settings", *STEP_COLUMNS], batch_size=200)


def _fill(
    row: Workflow | Step, spec: Spec, columns: Sequence[str], left_out: Sequence[str] = ()
) -> None:
    for column in columns:
        setattr(row, column, spec.get(column))
    row.settings = {
        key: value for key, value in spec.items() if key not in columns and key not in left_out
    }


def _columns(row: Workflow | Step, columns: Sequence[str]) -> dict[str, Any]:
    values = {column: getattr(row, column) for column in columns}
    return {column: value for column, value in values.items() if value is not None}
