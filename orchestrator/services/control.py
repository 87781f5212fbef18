"""What people do with a run while it goes, and after it has ended."""

from typing import Any, ClassVar

from django.db import connection, transaction

from orchestrator.core.errors import OrchestratorError
from orchestrator.core.state import RunStatus
from orchestrator.dispatch.canvas import publish_advance
from orchestrator.models import Run
from orchestrator.services.runs import refuse_suspended
from tenants.scope import current_actor
from tenants.services.notes import note

_STOP = "SELECT muster_stop_run(%s, %s, %s, %s)"
_PAUSE = "SELECT muster_pause_run(%s, %s, %s)"
_RESUME = "SELECT muster_resume_run(%s, %s, %s)"
_RETRY = "SELECT muster_retry_run(%s, %s, %s, %s)"


class RunStateError(OrchestratorError):
    """The run's state forbids what was asked of it."""

    code: ClassVar[str] = "run_state"

    def __init__(self, action: str, status: str) -> None:
        super().__init__(action, status)
        self.action, self.status = action, status

    def __str__(self) -> str:
        return f"A run that is {self.status.replace('_', ' ')} cannot be {self.action}."


def cancel_run(run: Run) -> None:
    """End a live run: nothing more is begun, what is under way is cut short and charged.

    All of these raise RunStateError for a run whose state forbids it.
    """
    _change(run, "cancelled", _STOP, RunStatus.CANCELLED, f"Cancelled by {current_actor().label}")


def pause_run(run: Run) -> None:
    """Hand out nothing more until the run is resumed; what a worker has begun goes on."""
    _change(run, "paused", _PAUSE, f"Paused by {current_actor().label}")


def resume_run(run: Run) -> None:
    """Let a paused run go on. Raises TenantSuspendedError too."""
    refuse_suspended()
    _change(run, "resumed", _RESUME, f"Resumed by {current_actor().label}")


def retry_run(run: Run) -> None:
    """Take up an ended run again: what did not complete is tried anew, what did is kept.

    Its deadline, if it has one, begins anew. Raises TenantSuspendedError too.
    """
    refuse_suspended()
    deadline = run.version.plan.get("deadline_seconds")
    _change(run, "retried", _RETRY, deadline, f"Retried by {current_actor().label}")


def _change(run: Run, action: str, query: str, *arguments: Any) -> None:
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(query, [run.tenant_id, run.id, *arguments])
            is_changed = bool(cursor.fetchone()[0])
        if not is_changed:
            raise RunStateError(action, Run.objects.values_list("status", flat=True).get(id=run.id))
        note(f"run.{action}", object_type="run", object_id=run.id)
        transaction.on_commit(lambda: publish_advance(run.tenant_id, run.id))
