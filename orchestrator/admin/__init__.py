from orchestrator.admin.approvals import ApprovalAdmin
from orchestrator.admin.batches import RunBatchAdmin
from orchestrator.admin.budgets import BudgetAdmin, CostAlertAdmin
from orchestrator.admin.credentials import CredentialAdmin
from orchestrator.admin.limits import PlatformRateLimitAdmin, RateLimitAdmin
from orchestrator.admin.prompt_templates import PromptTemplateAdmin
from orchestrator.admin.runs import RunAdmin
from orchestrator.admin.workflows import WorkflowAdmin

__all__ = [
    "ApprovalAdmin",
    "BudgetAdmin",
    "CostAlertAdmin",
    "CredentialAdmin",
    "PlatformRateLimitAdmin",
    "PromptTemplateAdmin",
    "RateLimitAdmin",
    "RunAdmin",
    "RunBatchAdmin",
    "WorkflowAdmin",
]
