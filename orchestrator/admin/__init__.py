from orchestrator.admin.approvals import ApprovalAdmin
from orchestrator.admin.batches import RunBatchAdmin
from orchestrator.admin.runs import RunAdmin
from orchestrator.admin.workflows import WorkflowAdmin

__all__ = ["ApprovalAdmin", "RunAdmin", "RunBatchAdmin", "WorkflowAdmin"]
