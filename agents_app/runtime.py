"""Drives one agent: finds its type and runs it with the ports it is handed."""

from collections.abc import Mapping

from pydantic import JsonValue

from agents_app.core.agent import AgentConfig, AgentTypes, Outcome, Ports
from agents_app.core.types import AGENT_TYPES


def run_agent(
    config: AgentConfig,
    *,
    inputs: Mapping[str, JsonValue],
    ports: Ports,
    types: AgentTypes = AGENT_TYPES,
) -> Outcome:
    """Run an agent whose prompt and arguments are rendered. Failures are AgentsError.

    Raises nothing else, except what the ports raise for their own reasons.
    """
    return types[config.type].run(config, inputs=inputs, ports=ports)
