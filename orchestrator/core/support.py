"""What the engine does not run yet. Such workflows are valid, but cannot be published."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from orchestrator.core.problems import Problem, pointer
from orchestrator.core.spec import StepSpec, WorkflowSpec


def not_yet(spec: WorkflowSpec) -> list[Problem]:
    """Every place where the workflow asks for what the engine does not run yet."""
    return list(_in_steps(spec.steps, at="/steps"))


def _in_steps(steps: Sequence[StepSpec], *, at: str) -> Iterator[Problem]:
    for step in steps:
        if step.loop is None:
            continue
        here = at + pointer(step.name)
        if step.max_cost_usd is not None:
            message = "Set `max_cost_usd` at the steps of the loop"
            yield Problem(here + "/max_cost_usd", "not_supported_yet", message)
        yield from _in_steps(step.loop.steps, at=here + "/loop/steps")
