"""Steps that name a capability: which agents may take them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from orchestrator.core.config import AgentConfig
from orchestrator.core.marking import marks_in
from orchestrator.core.plan import Choice, Plan, PlannedStep, reads_beyond, with_agent
from orchestrator.core.problems import Problem
from orchestrator.core.spec import AgentSpec
from orchestrator.core.validation import Catalog, examine
from orchestrator.core.values import JsonObject

_OF_AGENT: Final = frozenset(AgentSpec.model_fields)
# What a variable holds is for the whole workflow to tell; which may stand there is looked at here.
_OF_VARIABLES: Final = frozenset(
    {"unknown_variable", "unknown_step", "not_upstream", "may_be_missing"}
)


def with_candidates(plan: Plan, catalog: Catalog) -> Plan:
    """The plan whose open steps know the agents that could take them now."""

    def known(step: PlannedStep) -> PlannedStep:
        if step.choice is None:
            return step
        found = tuple(candidates(step, step.choice, catalog))
        return replace(
            step,
            choice=replace(step.choice, candidates=found),
            uses_model=any(each.uses_model for each in found),
        )

    return plan.with_steps(known)


def candidates(step: PlannedStep, choice: Choice, catalog: Catalog) -> Iterator[PlannedStep]:
    """The step with each agent that has its capability and fits it, by name."""
    for name, agent in catalog.agents_with(choice.capability).items():
        found = with_agent(step, choice, name=name, agent=agent)
        if _has_all(found, step) and not _problems(step, choice, agent, catalog):
            yield replace(found, marked=marks_in(found, step.marked))


def _has_all(found: PlannedStep, step: PlannedStep) -> bool:
    """Whether the step brings along all that its agent reads."""
    return not reads_beyond(
        found.config, needs=step.needs, reads=step.reads, previous_reads=step.previous_reads
    )


def _problems(
    step: PlannedStep, choice: Choice, agent: AgentConfig, catalog: Catalog
) -> list[Problem]:
    """What keeps the agent from working in the step, found as if it stood there alone."""
    described = {name: value for name, value in agent.items() if name in _OF_AGENT}
    stubs: JsonObject = {need: {"delay": "1s"} for need in step.needs}
    alone: JsonObject = {"needs": [*stubs], "agent": described, **choice.own}
    if step.adds_steps:
        alone["adds_steps"] = True
    workflow: JsonObject = {
        "name": "choice",
        "defaults": choice.defaults,
        "steps": {**stubs, step.name: alone},
    }
    report = examine(workflow, catalog)
    found = [*report.problems, *report.unsupported]
    return [problem for problem in found if problem.code not in _OF_VARIABLES]
