"""Starting runs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models.functions import Now

from orchestrator.core.plan import plan_from_json
from orchestrator.core.schema import value_problems, with_defaults
from orchestrator.core.spec import DEFAULT_PRIORITY
from orchestrator.dispatch.canvas import publish_advances
from orchestrator.models import Run, Workflow, WorkflowVersion
from orchestrator.services.errors import InputInvalidError, NotPublishedError
from orchestrator.services.plan_prices import check_cap
from orchestrator.services.readiness import provider_problems
from tenants.errors import TenantSuspendedError
from tenants.models import Tenant, TenantStatus
from tenants.scope import current_actor, current_tenant_id

_OPEN = "SELECT * FROM muster_open_runs(%s, %s)"


def start_run(
    *,
    workflow: Workflow,
    input: Any,
    version: WorkflowVersion | None = None,
    priority: int | None = None,
    metadata: Mapping[str, Any] | None = None,
    deadline: timedelta | None = None,
    max_cost_nano: int | None = None,
) -> Run:
    """Create a run with all its rows; workers hear of it once the transaction commits.

    The input schema's defaults are filled in. `deadline` is how long the run may take, instead of
    what its workflow says; whole seconds count. `max_cost_nano` is what it may cost, where that is
    less than its workflow allows. Raises TenantSuspendedError, NotPublishedError, CapTooSmallError,
    or InputInvalidError with every problem; a provider that cannot be called is one.
    """
    refuse_suspended()
    pinned = pinned_version(workflow, version)
    problems = provider_problems(pinned.id, at="/workflow")
    if problems:
        raise InputInvalidError(problems)
    run = new_run(
        workflow=workflow,
        version=pinned,
        input=input,
        priority=priority,
        metadata=metadata,
        deadline=deadline,
        max_cost_nano=max_cost_nano,
    )
    refuse_small_cap(run)
    create_runs([run])
    return run


def new_run(
    *,
    workflow: Workflow,
    version: WorkflowVersion,
    input: Any,
    priority: int | None = None,
    metadata: Mapping[str, Any] | None = None,
    deadline: timedelta | None = None,
    max_cost_nano: int | None = None,
    at: str = "/input",
) -> Run:
    """A run that is not stored yet. InputInvalidError has every problem, with places below `at`."""
    return Run(
        project_id=workflow.project_id,
        workflow=workflow,
        version=version,
        input=checked_input(version, input, at=at),
        priority=DEFAULT_PRIORITY if priority is None else priority,
        metadata=dict(metadata or {}),
        deadline_seconds=None if deadline is None else int(deadline.total_seconds()),
        max_cost_nano=max_cost_nano,
        started_by=asdict(current_actor()),
    )


def pinned_version(workflow: Workflow, version: WorkflowVersion | None) -> WorkflowVersion:
    """The version that a run of the workflow uses. Raises NotPublishedError."""
    pinned = version or workflow.current_version
    if pinned is None:
        raise NotPublishedError(workflow.name)
    return pinned


def checked_input(version: WorkflowVersion, input: Any, *, at: str = "/input") -> Any:
    """The input with its schema's defaults, or InputInvalidError."""
    schema = version.spec.get("inputs") or {}
    given = with_defaults(input, schema)
    problems = value_problems(given, schema, at=at)
    if problems:
        raise InputInvalidError(problems)
    return given


def create_runs(runs: Sequence[Run], *, without: Sequence[str] = ()) -> None:
    """Store new runs, and let workers hear of them once the transaction commits.

    The agent runs of the steps `without` are the caller's to write.
    """
    tenant_id, ids = current_tenant_id(), [run.id for run in runs]
    # By the database's clock, as all times that the sweeper compares.
    for run in runs:
        run.created_at = Now()
    Run.objects.bulk_create(runs)
    with connection.cursor() as cursor:
        cursor.execute(_OPEN, [ids, list(without)])
        times = {run_id: (deadline_at, at) for run_id, deadline_at, at in cursor.fetchall()}
    for run in runs:
        run.deadline_at, run.created_at = times[run.id]
    transaction.on_commit(lambda: publish_advances(tenant_id, ids))


def refuse_small_cap(run: Run) -> None:
    """Raises CapTooSmallError if the run cannot complete with what it was asked to do with."""
    if run.max_cost_nano is not None:
        plan = plan_from_json(run.version.plan)
        check_cap(plan, input=run.input, max_cost_nano=run.max_cost_nano)


def refuse_suspended() -> None:
    """Raises TenantSuspendedError if the open tenant may start nothing."""
    tenant = Tenant.objects.get(id=current_tenant_id())
    if tenant.status == TenantStatus.SUSPENDED:
        raise TenantSuspendedError(tenant.slug, tenant.suspended_reason)
