"""Sub-workflows: the runs that steps of other runs stand for."""

from typing import ClassVar
from uuid import UUID

from django.db.models import Exists, OuterRef

from orchestrator.core.errors import OrchestratorError, TemplateError
from orchestrator.core.places import Scope, Surroundings
from orchestrator.core.plan import Plan, WorkflowCall
from orchestrator.core.state import AgentRunStatus, RunStatus
from orchestrator.core.template import render
from orchestrator.dispatch.canvas import publish
from orchestrator.execution.finishes import Finish, finish_all
from orchestrator.execution.versions import plan_of
from orchestrator.models import AgentRun, Run, WorkflowVersion
from orchestrator.services.errors import InputInvalidError
from orchestrator.services.runs import create_runs, new_run
from tenants.scope import Actor, acting_as, tenant_scope

MAX_DEPTH = 8


class TooDeepError(OrchestratorError):
    """Workflows run each other without an end in sight."""

    code: ClassVar[str] = "too_deep"

    def __str__(self) -> str:
        return f"Sub-workflows nest deeper than {MAX_DEPTH}"


def start_children(tenant_id: UUID, run_id: UUID) -> None:
    """Start the runs that steps of the run stand for, once each; steps that cannot, fail."""
    failed: list[Finish] = []
    with tenant_scope(tenant_id):
        parent = Run.objects.get(id=run_id)
        if parent.status != RunStatus.RUNNING or parent.stop_wanted:
            return
        with acting_as(Actor(**parent.started_by)):
            for agent_run in _waiting_steps(run_id):
                try:
                    create_runs([_child(tenant_id, parent, agent_run)])
                except (TooDeepError, TemplateError, InputInvalidError) as error:
                    failed.append(_failed(tenant_id, agent_run, error))
    if failed:
        for finished in finish_all(failed):
            publish(finished.hints if finished else ())


def _waiting_steps(run_id: UUID) -> list[AgentRun]:
    """Locked, so that none is started twice."""
    steps = AgentRun.objects.filter(run_id=run_id, kind="workflow", status="running").order_by("id")
    list(steps.select_for_update(of=("self",)).values_list("id"))
    # A statement of its own: it has to see the runs that the lock's last holder has started.
    has_run = Exists(Run.objects.filter(parent_agent_run_id=OuterRef("id")))
    return list(steps.filter(~has_run))


def _child(tenant_id: UUID, parent: Run, agent_run: AgentRun) -> Run:
    if parent.depth >= MAX_DEPTH:
        raise TooDeepError
    scope, call = _called(plan_of(tenant_id, parent.version_id), agent_run.step)
    version = WorkflowVersion.objects.select_related("workflow").get(id=call.version_id)
    outputs = dict(
        AgentRun.objects.filter(run=parent, step__in=agent_run.reads).values_list("step", "output")
    )
    context = {"input": parent.input, **scope.around.variables(outputs)}
    child = new_run(
        workflow=version.workflow,
        version=version,
        input={} if call.input is None else render(call.input, context),
        priority=parent.priority,
        at="/input",
    )
    child.parent_agent_run_id = agent_run.id
    child.depth = parent.depth + 1
    return child


def _called(plan: Plan, place: str) -> tuple[Scope, WorkflowCall]:
    call = plan.step(place).call
    if call is None:
        raise LookupError(f"{place} is no sub-workflow")
    return Scope(plan, Surroundings.of(place)), call


def _failed(tenant_id: UUID, agent_run: AgentRun, error: OrchestratorError) -> Finish:
    return Finish(
        tenant_id=tenant_id,
        agent_run_id=agent_run.id,
        attempt=agent_run.attempt,
        status=AgentRunStatus.FAILED,
        reason=str(error),
        error={"code": error.code, "message": str(error)},
    )
