"""One call of a registered function, without a model."""

from collections.abc import Mapping

from pydantic import JsonValue

from agents_app.core import values
from agents_app.core.agent import (
    AgentConfig,
    Outcome,
    Ports,
    Problem,
    schema_problems,
    tool_problems,
)
from agents_app.core.hands import DueCall
from agents_app.core.model import ToolCall
from agents_app.core.structured import check_output
from agents_app.core.tools import Toolbox


class ToolAgent:
    name = "tool"
    description = "Calls one registered function with the given arguments; no model."
    calls_model = False

    def problems(self, config: AgentConfig, tools: Toolbox) -> list[Problem]:
        found = []
        if not config.tool:
            found.append(Problem("tool", "a tool agent needs a tool"))
        elif fault := tools.fault(config.tool):
            found.append(Problem("tool", fault))
        else:
            found += _argument_problems(config, tools)
        return found + schema_problems(config) + tool_problems(config)

    def run(
        self,
        config: AgentConfig,
        *,
        inputs: Mapping[str, JsonValue],  # they are in the arguments already
        ports: Ports,
    ) -> Outcome:
        output = _called(config, ports)
        if config.output_schema is not None:
            check_output(output, config.output_schema)
        return Outcome(output=output, text=values.as_text(output))


def _called(config: AgentConfig, ports: Ports) -> JsonValue:
    call = ToolCall(id=config.tool, name=config.tool, arguments=dict(config.arguments))
    due = DueCall(call=call, tool=ports.tools[config.tool], context=ports.context)
    ((_, end),) = ports.hands.ends_of([due], within_seconds=config.deadline_seconds)
    if end.failure is not None:
        raise end.failure
    return end.output


def _argument_problems(config: AgentConfig, tools: Toolbox) -> list[Problem]:
    """Names that are unknown or missing. Values may be templates still, so only names count."""
    schema = tools[config.tool].parameters
    known = set(schema.get("properties", {}))
    missing = set(schema.get("required", ())) - config.arguments.keys()
    unknown = config.arguments.keys() - known
    return [Problem(f"arguments.{name}", "is required") for name in sorted(missing)] + [
        Problem(f"arguments.{name}", f"tool {config.tool!r} takes no such argument")
        for name in sorted(unknown)
    ]
