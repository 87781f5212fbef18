"""Sub-workflows: the runs that steps of other runs stand for."""

from dataclasses import dataclass, field
from typing import Any, ClassVar
from uuid import UUID

from django.db.models import Exists, OuterRef

from orchestrator.core.errors import OrchestratorError, TemplateError
from orchestrator.core.hints import hints_of
from orchestrator.core.places import Scope
from orchestrator.core.plan import MAX_DEPTH, Plan
from orchestrator.core.state import AgentRunStatus, RunStatus
from orchestrator.core.template import render
from orchestrator.dispatch.canvas import publish
from orchestrator.execution import engine_db
from orchestrator.execution.finishes import Finish, finish_within
from orchestrator.execution.versions import addition_of, plan_of
from orchestrator.models import AgentRun, Run, WorkflowVersion
from orchestrator.services.errors import InputInvalidError
from orchestrator.services.runs import create_runs, new_run
from tenants.scope import Actor, acting_as, tenant_scope

# So many are started together.
BATCH = 50

_ENTER = "SELECT set_config('app.tenant_id', %s, true)"
_LOCK = "SELECT id FROM run WHERE id = %s FOR NO KEY UPDATE"


class TooDeepError(OrchestratorError):
    """Workflows run each other without an end in sight."""

    code: ClassVar[str] = "too_deep"

    def __str__(self) -> str:
        return f"Sub-workflows nest deeper than {MAX_DEPTH}"


def start_children(tenant_id: UUID, run_id: UUID) -> None:
    """Start the runs that steps of the run stand for, once each; steps that cannot, fail."""
    while _start_some(tenant_id, run_id):
        pass


def _start_some(tenant_id: UUID, run_id: UUID) -> bool:
    """Start as many as one transaction should hold; true if there may be more."""
    failed: list[Finish] = []
    with tenant_scope(tenant_id):
        parent = Run.objects.get(id=run_id)
        if parent.status != RunStatus.RUNNING or parent.stop_wanted:
            return False
        waiting = _waiting_steps(run_id)
        calling = _Calling(tenant_id, parent, plan_of(tenant_id, parent.version_id))
        children: list[Run] = []
        with acting_as(Actor(**parent.started_by)):
            for agent_run in waiting:
                try:
                    children.append(calling.child(agent_run))
                except (TooDeepError, TemplateError, InputInvalidError) as error:
                    failed.append(_failed(tenant_id, agent_run, error))
            if children:
                create_runs(children)
    if failed:
        _fail(run_id, failed)
    return len(waiting) == BATCH


def _waiting_steps(run_id: UUID) -> list[AgentRun]:
    """Locked, so that none is started twice."""
    has_run = Exists(Run.objects.filter(parent_agent_run_id=OuterRef("id")))
    steps = AgentRun.objects.filter(~has_run, run_id=run_id, kind="workflow", status="running")
    locked = steps.order_by("id").select_for_update(of=("self",), no_key=True)
    ids = list(locked.values_list("id", flat=True)[:BATCH])
    # A statement of its own: it has to see the runs that the lock's last holder has started.
    return list(steps.filter(id__in=ids).order_by("id"))


@dataclass(frozen=True, slots=True)
class _Calling:
    """Makes the runs that steps of a run stand for. What items of a map share is read once."""

    tenant_id: UUID
    parent: Run
    plan: Plan
    versions: dict[str, WorkflowVersion] = field(default_factory=dict)
    outputs: dict[tuple[str, ...], dict[str, Any]] = field(default_factory=dict)

    def child(self, agent_run: AgentRun) -> Run:
        """A run that is not stored yet. Raises what keeps it from being started."""
        if self.parent.depth >= MAX_DEPTH:
            raise TooDeepError
        scope = Scope.of(self.plan, agent_run.step, self._added_at)
        call = scope.step_at(agent_run.step).call
        if call is None:
            raise LookupError(f"{agent_run.step} is no sub-workflow")
        version = self._version(call.version_id)
        child = new_run(
            workflow=version.workflow,
            version=version,
            input={} if call.input is None else render(call.input, self._context(scope, agent_run)),
            priority=self.parent.priority,
            max_cost_nano=scope.step_at(agent_run.step).max_cost_nano,
            at="/input",
        )
        child.parent_agent_run_id = agent_run.id
        child.depth = self.parent.depth + 1
        child.cap_runs = self.parent.cap_runs
        return child

    def _version(self, version_id: str) -> WorkflowVersion:
        if version_id not in self.versions:
            found = WorkflowVersion.objects.select_related("workflow").get(id=version_id)
            self.versions[version_id] = found
        return self.versions[version_id]

    def _context(self, scope: Scope, agent_run: AgentRun) -> dict[str, Any]:
        variables = scope.around.variables(self._outputs(tuple(agent_run.reads)))
        return {"input": self.parent.input, **self._item(scope, agent_run), **variables}

    def _item(self, scope: Scope, agent_run: AgentRun) -> dict[str, Any]:
        """The item that it is made for, or that the loop around it is at."""
        if scope.step_at(agent_run.step).map is not None:
            return {"item": agent_run.item, "index": agent_run.item_index}
        if scope.around.item is None:
            return {}
        place, index = scope.around.item
        return {"item": AgentRun.objects.get(run=self.parent, step=place).item, "index": index}

    def _outputs(self, places: tuple[str, ...]) -> dict[str, Any]:
        if places not in self.outputs:
            read = AgentRun.objects.filter(run=self.parent, step__in=places)
            self.outputs[places] = {row.step: _given_by(row) for row in read}
        return self.outputs[places]

    def _added_at(self, place: str) -> Plan:
        who = AgentRun.objects.only("id").get(run=self.parent, step=place)
        return addition_of(self.tenant_id, who.id).plan


def _given_by(row: AgentRun) -> Any:
    """Who has added steps is at work until these have ended, and they read what it gave."""
    return row.added["output"] if row.added and row.status == "running" else row.output


def _failed(tenant_id: UUID, agent_run: AgentRun, error: OrchestratorError) -> Finish:
    return Finish(
        tenant_id=tenant_id,
        agent_run_id=agent_run.id,
        attempt=agent_run.attempt,
        status=AgentRunStatus.FAILED,
        reason=str(error),
        error={"code": error.code, "message": str(error)},
    )


def _fail(run_id: UUID, failed: list[Finish]) -> None:
    """The run is locked first, as by whoever calls back steps that have not been started."""
    with engine_db.transaction() as connection:
        engine_db.rows(connection, _ENTER, [str(failed[0].tenant_id)])
        engine_db.rows(connection, _LOCK, [run_id])
        ended = [row for finish in failed for row in finish_within(connection, finish)]
    publish(hints_of(failed[0].tenant_id, ended))
