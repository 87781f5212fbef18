"""What people do with a run while it goes, and after it has ended."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final
from uuid import UUID

from django.db import OperationalError, connection, transaction
from psycopg.errors import DeadlockDetected

from orchestrator.core.errors import OrchestratorError
from orchestrator.core.state import LIVE_RUN, TERMINAL_RUN, RunStatus
from orchestrator.dispatch.canvas import publish_advances
from orchestrator.execution.call_limits import flags_of
from orchestrator.limits import limits
from orchestrator.models import Run
from orchestrator.services.approvals import role_of
from orchestrator.services.runs import refuse_suspended
from tenants.principals import Principal
from tenants.scope import current_actor, current_tenant_id, tenant_scope
from tenants.services.notes import note

_STATES: Final[Mapping[str, frozenset[RunStatus]]] = {
    "pause": frozenset({RunStatus.PENDING, RunStatus.RUNNING}),
    "resume": frozenset({RunStatus.PAUSED, RunStatus.BUDGET_EXCEEDED}),
    "cancel": LIVE_RUN,
    "retry": TERMINAL_RUN - {RunStatus.COMPLETED},
}
_PAST: Final = {
    "pause": "paused",
    "resume": "resumed",
    "cancel": "cancelled",
    "retry": "retried",
    "replay": "replayed",
}
_STOP = "SELECT muster_stop_run(%s, %s, %s, %s)"
_PAUSE = "SELECT muster_pause_run(%s, %s, %s)"
_RESUME = "SELECT muster_resume_run(%s, %s, %s)"
_RETRY = "SELECT muster_retry_run(%s, %s, %s, %s)"


class RunStateError(OrchestratorError):
    """The run's state forbids what was asked of it."""

    code: ClassVar[str] = "run_state"

    def __init__(self, action: str, state: str) -> None:
        super().__init__(action, state)
        self.action, self.state = action, state

    def __str__(self) -> str:
        return f"A run that is {self.state} cannot be {_PAST[self.action]}."


class NotAskedError(OrchestratorError):
    """The run asks people whether it may go on, and somebody else is asked."""

    code: ClassVar[str] = "not_asked"

    def __init__(self, roles: Sequence[str]) -> None:
        super().__init__(roles)
        self.roles = tuple(roles)

    def __str__(self) -> str:
        return f"Only a member whose role is {' or '.join(self.roles)} may resume this run."


def possible_actions(run: Run) -> tuple[str, ...]:
    """What its state lets one do with the run: of cancel, pause, resume and retry."""
    if run.stop_wanted:
        return ()
    return tuple(action for action, states in _STATES.items() if run.status in states)


def cancel_run(run: Run) -> None:
    """End a live run: nothing more is begun, what is under way is cut short and charged.

    All of these raise RunStateError for a run whose state forbids it.
    """
    _change(run, "cancel", _STOP, RunStatus.CANCELLED, f"Cancelled by {current_actor().name}")


def pause_run(run: Run) -> None:
    """Hand out nothing more until the run is resumed; what a worker has begun goes on."""
    _change(run, "pause", _PAUSE, f"Paused by {current_actor().name}")


def resume_run(run: Run, *, by: Principal | None = None) -> None:
    """Let a run go on that was paused, or had run out of budget, as far as there is money now.

    `by` is who wants it; None resumes no run that asks people. Raises TenantSuspendedError and
    NotAskedError too.
    """
    refuse_suspended()
    if refused := refusal_to_resume(run, by=by):
        raise refused
    reason = f"Resumed by {current_actor().name}"
    if run.status == RunStatus.BUDGET_EXCEEDED:
        tenant_id = current_tenant_id()
        _change(run, "resume", _RETRY, run.deadline_seconds, reason)
        transaction.on_commit(lambda: _forget_exhaustion(run, tenant_id))
    else:
        _change(run, "resume", _RESUME, reason)


def refusal_to_resume(run: Run, *, by: Principal | None) -> NotAskedError | None:
    """Why the run waits for somebody else's yes, its own or that of a run above it."""
    if by is not None and by.is_operator:
        return None
    asking = Run.objects.filter(id__in={run.id, *run.cap_runs}, paused_for="ask")
    of_paused = asking.filter(status=RunStatus.PAUSED).values_list("asked_roles", flat=True)
    refusing = (roles for roles in of_paused if by is None or role_of(by) not in roles)
    return next(map(NotAskedError, refusing), None)


def _forget_exhaustion(run: Run, tenant_id: UUID) -> None:
    """What was exhausted a moment ago may have been raised: the budgets are asked again at once."""
    with tenant_scope(tenant_id):
        agents = list(run.agent_runs.order_by().values_list("agent", flat=True).distinct())
    flags = flags_of(
        tenant_id=tenant_id,
        project_id=run.project_id,
        workflow_id=run.workflow_id,
        cap_runs=run.cap_runs,
        agents=agents,
    )
    for flag in flags:
        limits().clear_budget(flag)


def retry_run(run: Run) -> None:
    """Take up an ended run again: what did not complete is tried anew, what did is kept.

    Its deadline, if it has one, begins anew. Raises TenantSuspendedError too.
    """
    refuse_suspended()
    _change(run, "retry", _RETRY, run.deadline_seconds, f"Retried by {current_actor().name}")


def _change(run: Run, action: str, query: str, *arguments: Any) -> None:
    """Once more after a deadlock with a worker, whose savepoint has let go of all locks."""
    try:
        _change_once(run, action, query, *arguments)
    except OperationalError as error:
        if not isinstance(error.__cause__, DeadlockDetected):
            raise
        _change_once(run, action, query, *arguments)


def _change_once(run: Run, action: str, query: str, *arguments: Any) -> None:
    tenant_id = current_tenant_id()
    with transaction.atomic():
        # Of two at once the second sees what the first has made of it.
        found = Run.objects.select_for_update(no_key=True).only("status", "stop_wanted")
        fresh = found.get(id=run.id)
        if action not in possible_actions(fresh):
            raise RunStateError(action, state_of(fresh))
        with connection.cursor() as cursor:
            cursor.execute(query, [tenant_id, run.id, *arguments])
            # Resuming gives the runs below as well, the others whether they did anything.
            moved = {run.id} | {told for (told,) in cursor.fetchall() if isinstance(told, UUID)}
        note(f"run.{_PAST[action]}", object_type="run", object_id=run.id)
        transaction.on_commit(lambda: publish_advances(tenant_id, list(moved)))


def state_of(run: Run) -> str:
    if not run.stop_wanted:
        return run.status.replace("_", " ")
    return "being cancelled" if run.stop_wanted == RunStatus.CANCELLED else "being stopped"
