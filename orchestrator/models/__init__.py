from orchestrator.models.run import AgentRun, Attempt, CallStatus, LlmCall, Run, RunEvent
from orchestrator.models.workflow import Step, Workflow, WorkflowVersion

__all__ = [
    "AgentRun",
    "Attempt",
    "CallStatus",
    "LlmCall",
    "Run",
    "RunEvent",
    "Step",
    "Workflow",
    "WorkflowVersion",
]
