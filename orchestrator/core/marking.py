"""Which variables of a prompt hold what a tool has brought, and so may say anything.

It is told by the graph alone: a tool gives it, an aggregator or a loop may pass it on, and a map
goes over it item by item.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from agents_app.core import observations
from orchestrator.core.jsonvalue import Json
from orchestrator.core.plan import Plan, PlannedStep
from orchestrator.core.template import Path, parse

ITEM: Final = "item"


def with_marks(plan: Plan, *, around: frozenset[str] = frozenset()) -> Plan:
    """The plan whose steps know what to mark; of `around`, steps outside of a loop bring such."""
    here = {step.name for step in plan.steps}
    brought = set(around - here)
    found: dict[str, PlannedStep] = {}
    for step in (step for level in plan.levels for step in level):
        if step.loop is not None:
            inner = frozenset(brought | ({ITEM} if _goes_over(step, brought) else set()))
            body = with_marks(step.loop.body, around=inner)
            step = replace(step, loop=replace(step.loop, body=body))
        if _brings(step, brought):
            brought.add(step.name)
        marked = _marked(step, brought)
        if step.choice is not None:
            each = tuple(
                replace(candidate, marked=marks_in(candidate, marked))
                for candidate in step.choice.candidates
            )
            step = replace(step, choice=replace(step.choice, candidates=each))
        found[step.name] = replace(step, marked=marked)
    return replace(plan, steps=tuple(found[step.name] for step in plan.steps))


def marks_in(step: PlannedStep, known: Iterable[str]) -> tuple[str, ...]:
    """Those of what tools have brought that the step's prompt holds."""
    prompt = step.config.get("prompt")
    if not step.uses_model or not isinstance(prompt, str):
        return ()
    return tuple(sorted({*known} & _roots(prompt)))


def shown(path: Path, value: Json, *, marked: Iterable[str]) -> Json:
    """A variable's value as a prompt has it: text of tools between marks, numbers as they are."""
    if not isinstance(value, str | list | dict) or _root(path) not in {*marked}:
        return value
    return observations.delimited(value)


def _brings(step: PlannedStep, brought: set[str]) -> bool:
    if step.loop is not None:
        return any(_brings(each, set()) for each in step.loop.body.steps)
    if step.choice is not None:
        # Nobody knows yet whether its agent calls a tool.
        return True
    match step.config.get("type"):
        case "tool":
            return True
        case "aggregator":
            return not brought.isdisjoint(step.needs)
    return False


def _goes_over(step: PlannedStep, brought: set[str]) -> bool:
    return step.map is not None and not brought.isdisjoint(_roots(step.map.over))


def _marked(step: PlannedStep, brought: set[str]) -> tuple[str, ...]:
    known = brought | {ITEM} if _goes_over(step, brought) else brought
    if step.map is not None and not _goes_over(step, brought):
        known = known - {ITEM}
    # The prompt may be that of the agent which is chosen later.
    return tuple(sorted(known)) if step.choice is not None else marks_in(step, known)


def _roots(text: str) -> set[str]:
    paths = (path for each in parse(text).expressions for path in each.paths)
    return {root for path in paths if (root := _root(path))}


def _root(path: Path) -> str:
    """The step whose output it is, or ITEM; empty for whatever else."""
    match path.parts:
        case ("steps", name, "output", *_) | ("loop", "previous", name, "output", *_):
            return name
        case ("item", *_):
            return ITEM
    return ""
