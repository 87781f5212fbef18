from orchestrator.models.run import Attempt, AgentRun, CallStatus, LlmCall, Run, RunEvent
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
