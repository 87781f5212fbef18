from orchestrator.models.approvals import Approval, ApprovalStatus
from orchestrator.models.calls import CachedAnswer, CallSettings
from orchestrator.models.limits import PlatformRateLimit, RateLimit
from orchestrator.models.load import (
    ClusterLoad,
    SpendMinute,
    TenantLoad,
    TenantShare,
    WorkerProcess,
)
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
    ToolCall,
    ToolCallStatus,
)
from orchestrator.models.workflow import Step, Workflow, WorkflowVersion

__all__ = [
    "AgentRun",
    "Approval",
    "ApprovalStatus",
    "Attempt",
    "CachedAnswer",
    "CallSettings",
    "CallStatus",
    "ClusterLoad",
    "Gate",
    "LlmCall",
    "PlatformRateLimit",
    "RateLimit",
    "ReadyAgentRun",
    "Run",
    "RunBatch",
    "RunEvent",
    "SpendMinute",
    "Step",
    "TenantLoad",
    "TenantShare",
    "ToolCall",
    "ToolCallStatus",
    "WorkerProcess",
    "Workflow",
    "WorkflowVersion",
]
