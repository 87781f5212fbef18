from orchestrator.models.approvals import Approval, ApprovalStatus
from orchestrator.models.run import (
    AgentRun,
    Attempt,
    CallStatus,
    Gate,
    LlmCall,
    ReadyAgentRun,
    Run,
    RunBatch,
    RunEvent,
)
from orchestrator.models.workflow import Step, Workflow, WorkflowVersion

__all__ = [
    "AgentRun",
    "Approval",
    "ApprovalStatus",
    "Attempt",
    "CallStatus",
    "Gate",
    "LlmCall",
    "ReadyAgentRun",
    "Run",
    "RunBatch",
    "RunEvent",
    "Step",
    "Workflow",
    "WorkflowVersion",
]
