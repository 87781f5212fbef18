from orchestrator.models.approvals import Approval, ApprovalStatus
from orchestrator.models.batches import BatchedCall, ModelBatch, ModelBatchStatus
from orchestrator.models.calls import CachedAnswer, CallSettings
from orchestrator.models.choices import AgentChoice
from orchestrator.models.exchange import (
    AgentMessage,
    CallEffect,
    ContextValue,
    MessagePlace,
    MessageSubscription,
    RunTally,
    Todo,
)
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
    "AgentChoice",
    "AgentMessage",
    "AgentRun",
    "Approval",
    "ApprovalStatus",
    "Attempt",
    "BatchedCall",
    "CachedAnswer",
    "CallEffect",
    "CallSettings",
    "CallStatus",
    "ClusterLoad",
    "ContextValue",
    "Gate",
    "LlmCall",
    "MessagePlace",
    "MessageSubscription",
    "ModelBatch",
    "ModelBatchStatus",
    "PlatformRateLimit",
    "RateLimit",
    "ReadyAgentRun",
    "Run",
    "RunBatch",
    "RunEvent",
    "RunTally",
    "SpendMinute",
    "Step",
    "TenantLoad",
    "TenantShare",
    "Todo",
    "ToolCall",
    "ToolCallStatus",
    "WorkerProcess",
    "Workflow",
    "WorkflowVersion",
]
