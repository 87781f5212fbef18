"""Starting runs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from django.db import connection, transaction

from orchestrator.core.plan import MAX_WINDOW
from orchestrator.core.schema import value_problems, with_defaults
from orchestrator.core.spec import DEFAULT_PRIORITY
from orchestrator.dispatch.canvas import publish_advances
from orchestrator.models import Run, RunEvent, Workflow, WorkflowVersion
from orchestrator.services.errors import InputInvalidError, NotPublishedError
from tenants.errors import TenantSuspendedError
from tenants.models import Tenant, TenantStatus
from tenants.scope import current_actor, current_tenant_id

# The rows come from the frozen plan where it lies: nothing of it travels.
CREATE_AGENT_RUNS = """
INSERT INTO agent_run (id, tenant_id, run_id, step, position, level, kind, priority, reads,
                       reads_input, agent, uses_model, provider, model, role, timeout_seconds,
                       next_steps, gates, tells)
SELECT uuidv7(), v.tenant_id, r.id, s.name, s.position, s.level, COALESCE(s.kind, 'agent'),
       -- A run's priority lifts or lowers all its steps; 5 changes nothing.
       LEAST(GREATEST(s.priority + r.priority - 5, 0), 10), s.reads, s.reads_input,
       COALESCE(s.agent, ''), s.uses_model, COALESCE(s.provider, ''), COALESCE(s.model, ''),
       COALESCE(s.role, ''), s.timeout_seconds, COALESCE(s.next_steps, '{}'),
       COALESCE(s.gates, '{}'), COALESCE(s.tells, false)
  FROM run r JOIN workflow_version v ON v.id = r.version_id,
       json_to_recordset(v.plan -> 'steps') AS s (
           name text, position int, level int, kind text, priority smallint, reads text[],
           reads_input boolean, agent text, uses_model boolean, provider text, model text,
           role text, timeout_seconds int, next_steps text[], gates int[], tells boolean)
 WHERE r.id = ANY (%s)
"""
_CREATE_GATES = """
INSERT INTO gate (tenant_id, run_id, number, "left", steps, tells)
SELECT v.tenant_id, r.id, g.number, g.needs, g.steps, g.tells
  FROM run r JOIN workflow_version v ON v.id = r.version_id,
       json_to_recordset(v.plan -> 'gates') AS g (
           number int, needs int, steps text[], tells boolean)
 WHERE r.id = ANY (%s)
"""
_TIME_LIMIT = """
UPDATE run r
   SET deadline_seconds = w.seconds,
       deadline_at = clock_timestamp() + make_interval(secs => w.seconds),
       -- Only where more may be due at a time than may run; levels see to themselves, but for
       -- maps and added steps, which nobody can count beforehand.
       "window" = CASE WHEN
           v.plan ->> 'strategy' = 'adaptive' AND json_array_length(v.plan -> 'steps') > w.most
           OR v.plan ->> 'max_parallel' IS NOT NULL AND EXISTS (
               SELECT FROM json_array_elements(v.plan -> 'steps') s
                WHERE s ->> 'map' IS NOT NULL OR (s ->> 'adds_steps')::boolean)
           THEN w.most END
  FROM run x JOIN workflow_version v ON v.id = x.version_id, LATERAL (
       SELECT LEAST((v.plan ->> 'max_parallel')::int, %s) AS most,
              COALESCE(x.deadline_seconds, (v.plan ->> 'deadline_seconds')::int) AS seconds) w
 WHERE r.id = ANY (%s) AND x.id = r.id
RETURNING r.id, r.deadline_at
"""


def start_run(
    *,
    workflow: Workflow,
    input: Any,
    version: WorkflowVersion | None = None,
    priority: int | None = None,
    metadata: Mapping[str, Any] | None = None,
    deadline: timedelta | None = None,
) -> Run:
    """Create a run with all its rows; workers hear of it once the transaction commits.

    The input schema's defaults are filled in. `deadline` is how long the run may take, instead of
    what its workflow says; whole seconds count. Raises TenantSuspendedError, NotPublishedError, or
    InputInvalidError with every problem.
    """
    refuse_suspended()
    run = new_run(
        workflow=workflow,
        version=pinned_version(workflow, version),
        input=input,
        priority=priority,
        metadata=metadata,
        deadline=deadline,
    )
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


def create_runs(runs: Sequence[Run]) -> None:
    """Store new runs, and let workers hear of them once the transaction commits."""
    store_runs(runs)
    ids = [run.id for run in runs]
    with connection.cursor() as cursor:
        cursor.execute(CREATE_AGENT_RUNS, [ids])
    open_runs(runs)


def store_runs(runs: Sequence[Run]) -> None:
    """Rows of the runs alone, and the first event of each."""
    tenant_id = current_tenant_id()
    Run.objects.bulk_create(runs)
    RunEvent.objects.bulk_create(
        RunEvent(
            tenant_id=tenant_id,
            run=run,
            type="run.created",
            data={"workflow": run.workflow.name, "version": run.version.number},
        )
        for run in runs
    )


def open_runs(runs: Sequence[Run]) -> None:
    """What runs need beside their agent runs; from then on they wait for `advance`."""
    tenant_id, ids = current_tenant_id(), [run.id for run in runs]
    with connection.cursor() as cursor:
        cursor.execute(_CREATE_GATES, [ids])
        cursor.execute(_TIME_LIMIT, [MAX_WINDOW, ids])
        deadlines = dict(cursor.fetchall())
    for run in runs:
        run.deadline_at = deadlines[run.id]
    transaction.on_commit(lambda: publish_advances(tenant_id, ids))


def refuse_suspended() -> None:
    """Raises TenantSuspendedError if the open tenant may start nothing."""
    tenant = Tenant.objects.get(id=current_tenant_id())
    if tenant.status == TenantStatus.SUSPENDED:
        raise TenantSuspendedError(tenant.slug, tenant.suspended_reason)
