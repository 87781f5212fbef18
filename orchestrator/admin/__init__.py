from orchestrator.admin.runs import RunAdmin
from orchestrator.admin.workflows import WorkflowAdmin

__all__ = ["RunAdmin", "WorkflowAdmin"]
