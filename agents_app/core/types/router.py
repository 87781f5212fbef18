"""Chooses one of the routes that it knows."""

from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from agents_app.core.agent import AgentConfig, Outcome, Ports, Problem, tool_problems
from agents_app.core.model import JsonSchema
from agents_app.core.tools import Toolbox
from agents_app.core.types.judging import answer_of, system_text
from agents_app.core.types.prompt import model_problems


class RouterAgent:
    name = "router"
    description = "Asks a model which of its routes to take; the steps after it compare."
    calls_model = True

    def problems(self, config: AgentConfig, tools: Toolbox) -> list[Problem]:
        found = model_problems(config) + tool_problems(config)
        if not config.routes:
            found.append(Problem("routes", "a router agent needs the names of its routes"))
        if len({*config.routes}) < len(config.routes):
            found.append(Problem("routes", "a route is named twice"))
        return found

    def run(self, config: AgentConfig, *, inputs: Mapping[str, JsonValue], ports: Ports) -> Outcome:
        return answer_of(
            config,
            system=router_system(config),
            schema=route_schema(config.routes),
            inputs=inputs,
            ports=ports,
        )


def router_system(config: AgentConfig) -> str:
    """What a router's model is told beside the prompt."""
    return system_text(config, f"Choose exactly one of these routes: {', '.join(config.routes)}.")


def route_schema(routes: Sequence[str]) -> JsonSchema:
    return {
        "type": "object",
        "required": ["route"],
        "properties": {"route": {"type": "string", "enum": list(routes)}},
        "additionalProperties": False,
    }
