"""The agent types that come with the platform."""

from agents_app.core.agent import AgentTypes
from agents_app.core.types.aggregator import AggregatorAgent
from agents_app.core.types.evaluator import EvaluatorAgent
from agents_app.core.types.planner import PatternPlannerAgent, PlannerAgent
from agents_app.core.types.prompt import PromptAgent
from agents_app.core.types.react import ReactAgent
from agents_app.core.types.router import RouterAgent
from agents_app.core.types.tool import ToolAgent

AGENT_TYPES = AgentTypes(
    PromptAgent(),
    ReactAgent(),
    PlannerAgent(),
    PatternPlannerAgent(),
    EvaluatorAgent(),
    RouterAgent(),
    ToolAgent(),
    AggregatorAgent(),
)
