"""Starting runs."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from django.db import connection, transaction

from orchestrator.core.schema import value_problems, with_defaults
from orchestrator.dispatch.canvas import publish_advance
from orchestrator.models import Run, RunEvent, Workflow, WorkflowVersion
from orchestrator.services.errors import InputInvalidError, NotPublishedError
from tenants.errors import TenantSuspendedError
from tenants.models import Tenant, TenantStatus
from tenants.scope import current_actor, current_tenant_id

# The rows come from the frozen plan where it lies: nothing of it travels.
_CREATE_AGENT_RUNS = """
INSERT INTO agent_run (id, tenant_id, run_id, step, position, level, priority, reads,
                       reads_input, agent, uses_model, provider, model, role)
SELECT uuidv7(), v.tenant_id, r.id, s.name, s.position, s.level,
       -- A run's priority lifts or lowers all its steps; 5 changes nothing.
       LEAST(GREATEST(s.priority + r.priority - 5, 0), 10), s.reads, s.reads_input,
       COALESCE(s.agent, ''), s.uses_model, COALESCE(s.provider, ''), COALESCE(s.model, ''),
       COALESCE(s.role, '')
  FROM run r JOIN workflow_version v ON v.id = r.version_id,
       json_to_recordset(v.plan -> 'steps') AS s (
           name text, position int, level int, priority smallint, reads text[],
           reads_input boolean, agent text, uses_model boolean, provider text, model text,
           role text)
 WHERE r.id = %s
"""


def start_run(
    *,
    workflow: Workflow,
    input: Any,
    version: WorkflowVersion | None = None,
    priority: int | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Run:
    """Create a run with all its rows; workers hear of it once the transaction commits.

    The input schema's defaults are filled in. Raises TenantSuspendedError, NotPublishedError,
    or InputInvalidError with every problem.
    """
    _refuse_suspended()
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
    RunEvent.objects.create(
        tenant_id=tenant_id,
        run=run,
        type="run.created",
        data={"workflow": workflow.name, "version": pinned.number},
    )
    transaction.on_commit(lambda: publish_advance(tenant_id, run.id))
    return run


def _refuse_suspended() -> None:
    tenant = Tenant.objects.get(id=current_tenant_id())
    if tenant.status == TenantStatus.SUSPENDED:
        raise TenantSuspendedError(tenant.slug, tenant.suspended_reason)
