"""What an agent is set to in one step: step over agent over the workflow's defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from orchestrator.core.jsonvalue import Json
from orchestrator.core.spec import FIELDS_OF_AGENT, AgentSpec, Defaults, Part, StepSpec
from orchestrator.core.values import Money

# A saved agent is the mapping that an author would have written in place; what else its owner
# stores in it, such as an id, is carried along.
AgentConfig: TypeAlias = Mapping[str, Json]

OVERRIDES: Final = (
    "provider",
    "model",
    "system",
    "prompt",
    "tools",
    "parameters",
    "arguments",
    "output_schema",
    "memory",
)
_DEFAULTS: Final = ("provider", "model", "parameters")


def agent_of(step: StepSpec, agents: Mapping[str, AgentConfig]) -> AgentConfig | None:
    """The agent before the step's overrides, or None if none is saved, or it is not chosen yet."""
    if isinstance(step.agent, AgentSpec):
        return _written(step.agent, tuple(AgentSpec.model_fields))
    return agents.get(step.agent) if isinstance(step.agent, str) else None


def step_config(step: StepSpec, *, agent: AgentConfig, defaults: Defaults) -> dict[str, Json]:
    """The merged configuration; `parameters` merge name by name."""
    return merged(agent, defaults=defaults_written(defaults), own=step_written(step))


def step_written(step: StepSpec) -> dict[str, Json]:
    """What the step itself sets of its agent."""
    return _written(step, OVERRIDES)


def defaults_written(defaults: Defaults) -> dict[str, Json]:
    return _written(defaults, _DEFAULTS)


def merged(agent: AgentConfig, *, defaults: AgentConfig, own: AgentConfig) -> dict[str, Json]:
    applicable = FIELDS_OF_AGENT.get(str(agent.get("type")), frozenset())
    base = {name: value for name, value in defaults.items() if name in applicable}
    return overlaid(overlaid(base, agent), own)


def _written(part: AgentSpec | Defaults | StepSpec, names: tuple[str, ...]) -> dict[str, Json]:
    written = part.model_fields_set
    values = ((name, getattr(part, name)) for name in names if name in written)
    return {name: _plain(value) for name, value in values if value is not None}


def _plain(value: Any) -> Json:
    """A value of a spec as JSON. No number of it holds every amount of money."""
    if isinstance(value, Money):
        return f"{value:f}"
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Part):
        return {name: _plain(getattr(value, name)) for name in value.model_fields_set}
    plain: Json = value
    return plain


def overlaid(below: AgentConfig, above: AgentConfig) -> dict[str, Json]:
    """`above` over `below`; what it leaves open stays."""
    merged = {**below, **{name: value for name, value in above.items() if value is not None}}
    # A model belongs to its provider: who names another provider does not mean the old model.
    if above.get("provider") not in {None, below.get("provider")} and not above.get("model"):
        merged.pop("model", None)
    lower, upper = below.get("parameters"), above.get("parameters")
    if isinstance(lower, dict) and isinstance(upper, dict):
        merged["parameters"] = {**lower, **upper}
    return merged
