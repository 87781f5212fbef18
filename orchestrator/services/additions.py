"""Examines the steps that an agent wants added to its run, and compiles them."""

from typing import Any

from django.conf import settings
from django.db import connection

from agents_app.core.agent import AddedSteps
from orchestrator.core.additions import Fragment, check_depth, check_places, refused
from orchestrator.core.errors import TooManyAddedStepsError, WorkflowInvalidError
from orchestrator.core.parsing import spec_from_mapping
from orchestrator.core.places import name_at
from orchestrator.core.problems import Problem
from orchestrator.core.validation import examine
from orchestrator.execution.claims import Claim
from orchestrator.execution.versions import addition_of
from orchestrator.models import WorkflowVersion
from orchestrator.services.workflows import compiled, tenant_catalog
from tenants.scope import tenant_scope


def added_by(claimed: Claim, wanted: AddedSteps, *, output: Any) -> dict[str, Any]:
    """What is written with the outcome of an agent run that adds steps.

    `output` is what it gives them. Raises AddedStepsError with every problem.
    """
    above = addition_of(claimed.tenant_id, claimed.added_by).depth if claimed.added_by else 0
    check_depth(above + 1, most=settings.MUSTER_MAX_ADDED_DEPTH)
    # For the run as a whole `advance` counts; what passes the bound alone is not even examined.
    if (
        isinstance(wanted.steps, dict | list)
        and len(wanted.steps) > settings.MUSTER_MAX_ADDED_STEPS
    ):
        raise TooManyAddedStepsError(settings.MUSTER_MAX_ADDED_STEPS)
    try:
        with tenant_scope(claimed.tenant_id):
            plan = _compiled(claimed, wanted)
    finally:
        if not connection.in_atomic_block:
            # Back to the pool at once: hundreds of threads may share it.
            connection.close()
    return {"plan": plan, "depth": above + 1, "output": output}


def _compiled(claimed: Claim, wanted: AddedSteps) -> dict[str, Any]:
    version = WorkflowVersion.objects.select_related("workflow__project").get(id=claimed.version_id)
    fragment = Fragment(
        by=name_at(claimed.step), header=version.spec, steps=wanted.steps, output=wanted.output
    )
    if fragment.by in fragment.names:
        told = f"`{fragment.by}` is the step that adds them; choose another name"
        raise refused([Problem(f"/steps/{fragment.by}", "duplicate_name", told)])
    report = examine(fragment.as_workflow(), tenant_catalog())
    if not report.can_publish:
        raise refused([*report.problems, *report.unsupported])
    try:
        plan, written = compiled(spec_from_mapping(fragment.alone()), version.workflow.project)
    except WorkflowInvalidError as error:
        raise refused(error.problems) from error
    check_places(claimed.step, plan)
    return written
