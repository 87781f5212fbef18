"""Thinks in turns: asks its model, calls the tools that it wants, and tells it what they gave."""

from collections.abc import Mapping
from dataclasses import replace

from pydantic import JsonValue

from agents_app.core import observations
from agents_app.core.agent import AgentConfig, Outcome, Ports, Problem
from agents_app.core.conversation import converse
from agents_app.core.delegating_tools import delegating_tools
from agents_app.core.delegation_settings import delegation_problems
from agents_app.core.loop import LoopLimits
from agents_app.core.memory_settings import MemorySettings, memory_problems
from agents_app.core.model import ModelRequest, ToolSpec
from agents_app.core.tools import Toolbox
from agents_app.core.types.prompt import is_count, model_problems, prompt_problems, request_of

MAX_TURNS = 1_000


class ReactAgent:
    """Every answer and every result of a tool is kept, so that none is asked for twice.

    Its time counts for all turns together.
    """

    name = "react"
    description = "Asks a model in turns and calls the tools that it wants, until it answers."
    calls_model = True

    def problems(self, config: AgentConfig, tools: Toolbox) -> list[Problem]:
        return prompt_problems(config) + model_problems(config) + loop_problems(config, tools)

    def run(
        self,
        config: AgentConfig,
        *,
        inputs: Mapping[str, JsonValue],  # they are in the prompt already
        ports: Ports,
    ) -> Outcome:
        own = ports.tools.only(dict.fromkeys(config.tools))
        ports = replace(ports, tools=Toolbox([*own.all(), *delegating_tools(config)]))
        request = _first_request(config, ports.tools)
        return converse(request, limits=limits_of(config), ports=ports)


def limits_of(config: AgentConfig) -> LoopLimits:
    memory = MemorySettings.of(config)
    return LoopLimits(
        turns=config.max_turns,
        tokens=config.max_total_tokens,
        repairs=config.repairs,
        context_tokens=memory.max_tokens,
        sums_up=memory.summary,
    )


def loop_problems(config: AgentConfig, tools: Toolbox) -> list[Problem]:
    """What is wrong with the settings of an agent that works in turns."""
    faults = (tools.fault(name) for name in config.tools)
    found = [Problem("tools", fault) for fault in faults if fault]
    if config.max_total_tokens is not None and not is_count(config.max_total_tokens):
        found.append(Problem("max_total_tokens", "must be a whole number of at least 1"))
    if not is_count(config.max_turns) or config.max_turns > MAX_TURNS:
        found.append(Problem("max_turns", f"must be a whole number from 1 to {MAX_TURNS:,}"))
    return found + memory_problems(config) + delegation_problems(config)


def _first_request(config: AgentConfig, tools: Toolbox) -> ModelRequest:
    specs = tuple(
        ToolSpec(name=tool.name, description=tool.description, parameters=tool.parameters)
        # One that is withheld says so when it is called: what was begun with it goes on.
        for tool in tools.all()
    )
    request = request_of(config)
    if not specs:
        return request
    system = "\n\n".join(filter(None, [config.system, observations.RULES]))
    return replace(request, system=system, tools=specs)
