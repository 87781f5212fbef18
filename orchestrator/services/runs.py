"""Starting runs."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from django.db import connection, transaction

from orchestrator.core.schema import value_problems, with_defaults
from orchestrator.dispatch.canvas import publish_advance
from orchestrator.models import Run, RunEvent, Workflow, WorkflowVersion
from orchestrator.services.advance import MAX_WINDOW
from orchestrator.services.errors import InputInvalidError, NotPublishedError
from tenants.errors import TenantSuspendedError
from tenants.models import Tenant, TenantStatus
from tenants.scope import current_actor, current_tenant_id

# The rows come from the frozen plan where it lies: nothing of it travels.
_CREATE_AGENT_RUNS = """
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
 WHERE r.id = %s
"""
_CREATE_GATES = """
INSERT INTO gate (tenant_id, run_id, number, "left", steps, tells)
SELECT v.tenant_id, r.id, g.number, g.needs, g.steps, g.tells
  FROM run r JOIN workflow_version v ON v.id = r.version_id,
       json_to_recordset(v.plan -> 'gates') AS g (
           number int, needs int, steps text[], tells boolean)
 WHERE r.id = %s
"""
_TIME_LIMIT = """
UPDATE run r
   SET deadline_seconds = w.seconds,
       deadline_at = clock_timestamp() + make_interval(secs => w.seconds),
       -- Only where more may be due at a time than may run; levels see to themselves, but for
       -- maps, whose items nobody can count beforehand.
       "window" = CASE WHEN
           v.plan ->> 'strategy' = 'adaptive' AND json_array_length(v.plan -> 'steps') > w.most
           OR v.plan ->> 'max_parallel' IS NOT NULL AND EXISTS (
               SELECT FROM json_array_elements(v.plan -> 'steps') s WHERE s ->> 'map' IS NOT NULL)
           THEN w.most END
  FROM workflow_version v, LATERAL (
       SELECT LEAST((v.plan ->> 'max_parallel')::int, %s) AS most,
              COALESCE(%s, (v.plan ->> 'deadline_seconds')::int) AS seconds) w
 WHERE r.id = %s AND v.id = r.version_id
RETURNING r.deadline_at
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
    pinned = version or workflow.current_version
    if pinned is None:
        raise NotPublishedError(workflow.name)
    schema = pinned.spec.get("inputs") or {}
    given = with_defaults(input, schema)
    problems = value_problems(given, schema)
    if problems:
        raise InputInvalidError(problems)
    tenant_id = current_tenant_id()
    run = Run.objects.create(
        project_id=workflow.project_id,
        workflow=workflow,
        version=pinned,
        input=given,
        priority=5 if priority is None else priority,
        metadata=dict(metadata or {}),
        started_by=asdict(current_actor()),
    )
    with connection.cursor() as cursor:
        cursor.execute(_CREATE_AGENT_RUNS, [run.id])
        cursor.execute(_CREATE_GATES, [run.id])
        cursor.execute(_TIME_LIMIT, [MAX_WINDOW, _seconds(deadline), run.id])
        (run.deadline_at,) = cursor.fetchone()
    RunEvent.objects.create(
        tenant_id=tenant_id,
        run=run,
        type="run.created",
        data={"workflow": workflow.name, "version": pinned.number},
    )
    transaction.on_commit(lambda: publish_advance(tenant_id, run.id))
    return run


def _seconds(span: timedelta | None) -> int | None:
    return None if span is None else int(span.total_seconds())


def refuse_suspended() -> None:
    """Raises TenantSuspendedError if the open tenant may start nothing."""
    tenant = Tenant.objects.get(id=current_tenant_id())
    if tenant.status == TenantStatus.SUSPENDED:
        raise TenantSuspendedError(tenant.slug, tenant.suspended_reason)
