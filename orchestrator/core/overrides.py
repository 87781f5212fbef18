"""What a replay may set otherwise in its steps, checked as publishing checks it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import replace
from typing import Final

from orchestrator.core.jsonvalue import Json, foreign_problem
from orchestrator.core.plan import Plan, PlannedStep
from orchestrator.core.problems import Problem, did_you_mean, limited, pointer
from orchestrator.core.replay import OVERRIDABLE
from orchestrator.core.spec import FIELDS_OF_AGENT, AgentSpec
from orchestrator.core.validation import Catalog, examine
from orchestrator.core.values import JsonObject

_AT: Final = "/overrides"
_OF_STEPS_AGENT: Final = frozenset(AgentSpec.model_fields)


def override_problems(
    overrides: Mapping[str, Json],
    *,
    plan: Plan,
    spec: Mapping[str, Json],
    kept: Set[str],
    catalog: Catalog,
) -> list[Problem]:
    """Everything that is wrong with them, at `/overrides/STEP/FIELD`.

    `spec` is the version's, `kept` the steps that do not run again. Of `catalog` the saved agents
    count only where a step names a capability: of others the version has its own copies.
    """
    foreign = foreign_problem(dict(overrides))
    if foreign:
        return [replace(foreign, loc=_AT + foreign.loc)]
    problems = list(_form_problems(overrides, plan=plan, kept=kept))
    usable = {
        name: changes
        for name, changes in overrides.items()
        if isinstance(changes, dict) and name in plan.names and plan.step(name).kind == "agent"
    }
    if usable:
        known = catalog if plan.chooses else replace(catalog, agents={})
        report = examine(_merged(spec, plan, usable), known)
        problems += _of_overrides([*report.problems, *report.unsupported], usable)
    return limited(problems)


def _form_problems(
    overrides: Mapping[str, Json], *, plan: Plan, kept: Set[str]
) -> Iterator[Problem]:
    for name, changes in overrides.items():
        at = _AT + pointer(name)
        if name not in plan.names:
            message = f"There is no step `{name}`{did_you_mean(name, plan.names)}"
            yield Problem(at, "unknown_step", message)
            continue
        kind = plan.step(name).kind
        if kind != "agent":
            message = f"`{name}` is a step of kind {kind}; overrides are for agents"
            yield Problem(at, "not_applicable", message)
        elif name in kept:
            message = f"`{name}` does not run again, as its output is reused; replay from it"
            yield Problem(at, "not_run_again", message)
        yield from _field_problems(changes, at=at)


def _field_problems(changes: Json, *, at: str) -> Iterator[Problem]:
    if not isinstance(changes, dict):
        known = ", ".join(OVERRIDABLE)
        yield Problem(at, "wrong_type", f"Write an object with any of {known}")
        return
    for field in changes.keys() - set(OVERRIDABLE):
        message = f"`{field}` cannot be overridden; known are: {', '.join(OVERRIDABLE)}."
        yield Problem(at + pointer(field), "unknown_field", message)


def _merged(
    spec: Mapping[str, Json], plan: Plan, overrides: Mapping[str, dict[str, Json]]
) -> JsonObject:
    """The version's spec with the overrides in it, and with its agents as they were frozen."""
    steps = spec["steps"]
    written = steps if isinstance(steps, dict) else {}
    merged: JsonObject = {}
    for name, step in written.items():
        changes = {
            field: value
            for field, value in overrides.get(name, {}).items()
            if field in OVERRIDABLE and value is not None
        }
        is_saved = isinstance(step, dict) and isinstance(step.get("agent"), str)
        if isinstance(step, dict) and plan.step(name).choice is not None:
            merged[name] = {**step, **changes}
        elif isinstance(step, dict) and (changes or is_saved):
            rest = {field: value for field, value in step.items() if field not in _OF_STEPS_AGENT}
            merged[name] = {**rest, "agent": _frozen(plan.step(name)), **changes}
        else:
            merged[name] = step
    return {**spec, "steps": merged}


def _frozen(step: PlannedStep) -> JsonObject:
    fields = FIELDS_OF_AGENT[str(step.config["type"])]
    return {field: value for field, value in step.config.items() if field in fields}


def _of_overrides(
    problems: list[Problem], overrides: Mapping[str, Mapping[str, Json]]
) -> Iterator[Problem]:
    for problem in problems:
        _, _, name, field, *_ = [*problem.loc.split("/"), "", "", "", ""]
        if problem.loc.startswith("/steps/") and field in overrides.get(name, {}):
            yield replace(problem, loc=_AT + problem.loc.removeprefix("/steps"))
