"""The tools by which an agent that works in turns hands tasks to others.

Their functions do no work: they give the step that does it, as it would stand in a workflow file.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import Field, JsonValue

from agents_app.core.agent import AgentConfig
from agents_app.core.delegation import literal, literal_text
from agents_app.core.model import ToolCall
from agents_app.core.tools import Tool, tool

DELEGATE: Final = "delegate"
RUN_WORKFLOW: Final = "run_workflow"
# By these names such tools are known, so that no other may have them.
DELEGATING: Final = frozenset({DELEGATE, RUN_WORKFLOW})


def is_delegating(tool: Tool) -> bool:
    return tool.name in DELEGATING


def whom(call: ToolCall) -> str:
    """Who is asked for something by a call of one of these tools."""
    asked = call.arguments if isinstance(call.arguments, dict) else {}
    return str(asked.get("agent") or asked.get("workflow") or call.name)


def delegating_tools(config: AgentConfig) -> list[Tool]:
    """Those that the agent has, by whom it may hand tasks to."""
    found = [_delegate(config)] if config.delegates else []
    return [*found, _run_workflow(config)] if config.workflows else found


def _delegate(config: AgentConfig) -> Tool:
    names = Literal[tuple(config.delegates)]  # type: ignore[valid-type]  # known at run time

    def delegate(agent: str, task: Annotated[str, Field(min_length=1, max_length=20_000)]) -> Any:
        """Hand a task to another agent, and get what it answers.

        It knows nothing of your conversation: tell it all that it has to know. Tasks that need
        nothing from each other are best handed over in one turn.
        """
        return {"agent": agent, "prompt": literal_text(task), **_bounds(config)}

    delegate.__annotations__["agent"] = names
    return tool(name=DELEGATE)(delegate)


def _run_workflow(config: AgentConfig) -> Tool:
    names = Literal[tuple(config.workflows)]  # type: ignore[valid-type]  # known at run time

    def run_workflow(workflow: str, input: dict[str, JsonValue]) -> Any:
        """Run a workflow with this input, and get its output."""
        cap = {"max_cost_usd": config.delegate_cost_usd} if config.delegate_cost_usd else {}
        return {"workflow": workflow, "input": literal(input), **cap}

    run_workflow.__annotations__["workflow"] = names
    return tool(name=RUN_WORKFLOW)(run_workflow)


def _bounds(config: AgentConfig) -> Mapping[str, JsonValue]:
    """What each delegated step may take: as long as the agent itself, and money of its own."""
    bounds: dict[str, JsonValue] = {"timeout": f"{max(1, round(config.deadline_seconds))}s"}
    if config.delegate_cost_usd:
        bounds["max_cost_usd"] = config.delegate_cost_usd
    return bounds
