"""What the engine does not run yet. Such workflows are valid, but cannot be published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from orchestrator.core.config import AgentConfig
from orchestrator.core.problems import Problem, pointer
from orchestrator.core.spec import AgentSpec, Part, StepSpec, WorkflowSpec

# The field and the value that is refused. A line goes once the engine honours it.
NOT_YET: Final[Mapping[str, tuple[tuple[str, object], ...]]] = {
    "workflow": (),
    "defaults": (),
    "step": (),
    "agent": (("type", "planner"),),
}


def not_yet(spec: WorkflowSpec, agents: Mapping[str, AgentConfig]) -> list[Problem]:
    """Every place where the workflow asks for what the engine does not run yet."""
    return [
        *_refused("workflow", spec, at=""),
        *_refused("defaults", spec.defaults, at="/defaults"),
        *_in_steps(spec.steps, agents, at="/steps"),
    ]


def _in_steps(
    steps: Sequence[StepSpec], agents: Mapping[str, AgentConfig], *, at: str
) -> Iterator[Problem]:
    for step in steps:
        here = at + pointer(step.name)
        yield from _refused("step", step, at=here)
        if isinstance(step.agent, AgentSpec):
            yield from _refused("agent", step.agent, at=here + "/agent")
        elif step.agent is not None and step.agent in agents:
            yield from _saved(step.agent, agents[step.agent], at=here + "/agent")
        if step.loop is not None:
            if step.max_cost_usd is not None:
                message = "Set `max_cost_usd` at the steps of the loop"
                yield Problem(here + "/max_cost_usd", "not_supported_yet", message)
            yield from _in_steps(step.loop.steps, agents, at=here + "/loop/steps")


def _refused(part: str, values: Part, *, at: str) -> Iterator[Problem]:
    for name, refused in NOT_YET[part]:
        value = getattr(values, name)
        if value == refused:
            message = f"{_shown(name, refused)} is not supported yet; remove it"
            yield Problem(at + pointer(name), "not_supported_yet", message)


def _saved(slug: str, agent: AgentConfig, *, at: str) -> Iterator[Problem]:
    for name, refused in NOT_YET["agent"]:
        if agent.get(name) == refused:
            shown = _shown(name, refused)
            message = f"The agent `{slug}` sets {shown}, which is not supported yet"
            yield Problem(at, "not_supported_yet", message)


def _shown(name: str, refused: object) -> str:
    return f"`{name}: {str(refused).lower()}`"
