from typing import ClassVar

from django.db import connection

from orchestrator.core.errors import OrchestratorError
from orchestrator.core.state import TERMINAL_RUN
from orchestrator.models import BatchedCall, Run, Workflow


class WorkflowBusyError(OrchestratorError):
    """Runs of the workflow are still at work; what they spend must find its place."""

    code: ClassVar[str] = "workflow_busy"

    def __init__(self, workflow: str) -> None:
        super().__init__(workflow)
        self.workflow = workflow

    def __str__(self) -> str:
        return f"Runs of {self.workflow} are still at work; wait until they have ended."


def delete_workflow(workflow: Workflow) -> None:
    """Delete a workflow with its steps, versions and runs. The ledger keeps what they cost."""
    # Locked, so that no run begins in between.
    Workflow.objects.select_for_update(of=("self",)).get(id=workflow.id)
    if Run.objects.filter(workflow=workflow).exclude(status__in=TERMINAL_RUN).exists():
        raise WorkflowBusyError(workflow.name)
    if BatchedCall.objects.filter(run__workflow=workflow).exists():
        # What they hold in budgets goes with them alone.
        raise WorkflowBusyError(workflow.name)
    # The database's own cascade: the ORM's would load every row, and stumbles over the circle
    # between a workflow and its current version.
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM workflow WHERE id = %s", [workflow.id])
