"""How much the calls of an agent read at most, one after another, told before they are made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, Final

from agents_app.core import observations, values
from agents_app.core.agent import AgentConfig
from agents_app.core.delegating_tools import delegating_tools
from agents_app.core.loop import LoopLimits
from agents_app.core.memory_settings import MemorySettings
from agents_app.core.model import DEFAULT_MAX_OUTPUT_TOKENS
from agents_app.core.planning import Means, decision_schema
from agents_app.core.pruning import LEAST_RESULT_BYTES
from agents_app.core.recalling import most_recalled_bytes
from agents_app.core.tools import MAX_RESULT_BYTES, Tool
from agents_app.core.types import planner
from agents_app.core.types.evaluator import judge_schema, judge_system
from agents_app.core.types.router import route_schema, router_system
from costs.core.pricing import most_bytes_of_tokens
from orchestrator.core.delegated import MAX_TOLD
from orchestrator.core.plan import PlannedStep
from orchestrator.core.prices import Terms
from orchestrator.core.schema import Schema
from orchestrator.core.text_size import Span

# What chat formats and the frames around schemas add to a text, as the gateway reckons it.
OVERHEAD_TOKENS: Final = 528
_IN_TURNS: Final = frozenset({"react", "planner"})
# What a model wrote is read again in at most so many tokens for each that it took to write it.
_READ_AGAIN: Final = 2
_PER_CHARACTER: Final = 4  # bytes of UTF-8
_LINE_ENDS: Final = 2
# What providers write around tools, and around each tool, call and result.
_FOR_TOOLS: Final = 1024
_PER_TOOL: Final = 64
_PER_RESULT: Final = 1024
# A call takes no fewer tokens to write.
_LEAST_CALL: Final = 8
_FOR_REFUSAL: Final = 256
_FIELDS: Final = frozenset(each.name for each in fields(AgentConfig))


def config_of(step: PlannedStep) -> AgentConfig:
    """What the step's agent is told, variables as they are written."""
    return agent_config(step.config)


def agent_config(written: Mapping[str, Any]) -> AgentConfig:
    given = {
        name: value for name, value in written.items() if name in _FIELDS and value is not None
    }
    return AgentConfig(**given)


def max_output(step: PlannedStep) -> int:
    parameters = step.config.get("parameters")
    most = parameters.get("max_output_tokens") if isinstance(parameters, dict) else None
    return most if isinstance(most, int) and most > 0 else DEFAULT_MAX_OUTPUT_TOKENS


def sent_beside(step: PlannedStep, terms: Terms) -> Span:
    """What a call reads beside its prompt, in bytes."""
    schema = _answer_form(step)
    texts = [_system_of(step), values.dump(schema) if schema else ""]
    size = sum(map(values.text_size, texts)) + _LINE_ENDS
    beside = most_recalled_bytes(step.config.get("memory"))
    return Span(size, size + beside + sum(_spec_bytes(tool) for tool in _shown_tools(step, terms)))


def reads(step: PlannedStep, first: int, *, window: int | None, terms: Terms) -> list[int]:
    """The tokens that each call reads at most, in order, if the first reads so many."""
    growth, count = _growth(step, terms), _count(step)
    found = [first + turn * growth for turn in range(count)]
    bounds = [each for each in (window, _remembered(step, first, terms)) if each is not None]
    return [min([read, *(max(first, bound) for bound in bounds)]) for read in found]


def _count(step: PlannedStep) -> int:
    config = config_of(step)
    if config.type in _IN_TURNS:
        return config.max_turns
    return 1 + config.repairs if _answer_form(step) is not None else 1


def _growth(step: PlannedStep, terms: Terms) -> int:
    """By how much a call reads more than the one before it: what was answered, and told upon it."""
    told = max(_misfit(step), _most_brought(step, terms))
    return _READ_AGAIN * max_output(step) + told + OVERHEAD_TOKENS


def _misfit(step: PlannedStep) -> int:
    """What is told of an answer that does not fit."""
    return _PER_CHARACTER * observations.MAX_PROBLEM + values.json_size(_answer_form(step))


def _most_brought(step: PlannedStep, terms: Terms) -> int:
    """What a turn may bring."""
    match step.config.get("type"):
        case "react":
            return _most_results(step, terms)
        case "planner":
            return config_of(step).max_tasks * planner.MAX_REPORT_BYTES
    return 0


def _most_results(step: PlannedStep, terms: Terms) -> int:
    """What a turn's calls may bring, and what is told of those that were too many."""
    tools = _shown_tools(step, terms)
    config = config_of(step)
    if not (config.tools or tools):
        return 0
    sizes = [tool.max_result_bytes for tool in tools] or [MAX_RESULT_BYTES]
    if config.delegates or config.workflows:
        sizes.append(_PER_CHARACTER * MAX_TOLD)
    each = observations.MOST_GROWTH * max(sizes) + observations.FRAME_BYTES + _PER_RESULT
    return LoopLimits().calls_per_turn * each + _most_calls(step) * _most_refused(step, terms)


def _most_calls(step: PlannedStep) -> int:
    return max_output(step) // _LEAST_CALL


def _most_refused(step: PlannedStep, terms: Terms) -> int:
    """What is told of a call that is not tried: at most, which tools there are."""
    names = sum(values.text_size(tool.name) + 2 for tool in _shown_tools(step, terms))
    return max(_PER_RESULT, _FOR_REFUSAL + names)


def _remembered(step: PlannedStep, first: int, terms: Terms) -> int | None:
    """What is shown of a long conversation: so much, or its beginning, and what was said last."""
    settings = MemorySettings.of(config_of(step))
    if settings.max_tokens is None:
        return None
    return max(first, most_bytes_of_tokens(settings.max_tokens)) + _last_turn(step, terms)


def _last_turn(step: PlannedStep, terms: Terms) -> int:
    """The latest turn, which is shown in any case: but for results of tools it is never cut."""
    config = config_of(step)
    brought = _most_brought(step, terms)
    if config.type == "react":
        each = max(LEAST_RESULT_BYTES + _PER_RESULT, _most_refused(step, terms))
        brought = min(brought, (LoopLimits().calls_per_turn + _most_calls(step)) * each)
    # An answer that was empty is no turn, and what is told of it goes to the one before.
    told = brought + max(1, config.repairs) * _misfit(step)
    return _READ_AGAIN * max_output(step) + told + OVERHEAD_TOKENS


def asking_tools(step: PlannedStep, terms: Terms) -> list[str]:
    """Its tools that ask models beside it."""
    return [tool.name for tool in _shown_tools(step, terms) if tool.asks_models]


def _shown_tools(step: PlannedStep, terms: Terms) -> Sequence[Tool]:
    if step.config.get("type") != "react":
        return ()
    config = config_of(step)
    named = (terms.tool_of(name) for name in config.tools)
    return [*(tool for tool in named if tool), *delegating_tools(config)]


def _spec_bytes(tool: Tool) -> int:
    """A provider may show its model a schema in another form than ours, and a word around it."""
    shown = values.text_size(f"{tool.name}\n{tool.description}")
    return shown + 2 * values.json_size(dict(tool.parameters)) + _PER_TOOL


def _answer_form(step: PlannedStep) -> Schema | None:
    """The JSON Schema that its model's answer has to fit."""
    schema = step.config.get("output_schema")
    schema = schema if isinstance(schema, dict) and schema else None
    config = config_of(step)
    match config.type:
        case "evaluator":
            return judge_schema(config)
        case "router":
            return route_schema(config.routes)
        case "planner":
            return decision_schema(planner_means(config), answer=schema)
    return schema


def planner_means(config: AgentConfig) -> Means:
    """Whom a planner may name."""
    return Means(tools=config.tools, agents=config.delegates, workflows=config.workflows)


def _system_of(step: PlannedStep) -> str:
    config = config_of(step)
    match config.type:
        case "evaluator":
            return judge_system(config)
        case "router":
            return router_system(config)
    return "\n\n".join(_systems(config))


def _systems(config: AgentConfig) -> Iterator[str]:
    yield config.system
    if config.type == "planner":
        yield planner.RULES
    elif config.type == "react":
        yield observations.RULES
