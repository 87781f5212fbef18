"""Drives one agent: finds its type and runs it with the ports it is handed."""

from collections.abc import Mapping
from dataclasses import replace

from pydantic import JsonValue

from agents_app.agent_types import ALL_TYPES
from agents_app.core.agent import AddedSteps, AgentConfig, AgentTypes, Outcome, Ports
from agents_app.core.recalling import recalled


def run_agent(
    config: AgentConfig,
    *,
    inputs: Mapping[str, JsonValue],
    ports: Ports,
    types: AgentTypes = ALL_TYPES,
) -> Outcome:
    """Run an agent whose prompt and arguments are rendered. Failures are AgentsError.

    With `adds_steps`, what it gives are steps to be added, unless its type adds steps by itself.
    Raises nothing else, except what the ports raise for their own reasons.
    """
    config = recalled(config, ports)
    outcome = types[config.type].run(config, inputs=inputs, ports=ports)
    if not config.adds_steps or outcome.adds is not None or not outcome.is_final:
        return outcome
    adds = AddedSteps.of(outcome.output)
    return replace(outcome, adds=adds) if adds.steps else replace(outcome, output=adds.output)
