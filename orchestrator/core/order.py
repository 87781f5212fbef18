"""Checks what steps wait for: unknown needs, cycles, and steps that are never reached."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from orchestrator.core.conditions import compile_condition
from orchestrator.core.errors import ConditionError
from orchestrator.core.problems import Problem, did_you_mean, pointer
from orchestrator.core.scope import Scope
from orchestrator.core.spec import StepSpec


def order_problems(scope: Scope, *, at: str) -> Iterator[Problem]:
    yield from _needs_problems(scope.steps, at=at)
    yield from _cycle_problems(scope, at=at)
    yield from _never_run(scope, at=at)


def _needs_problems(steps: Mapping[str, StepSpec], *, at: str) -> Iterator[Problem]:
    for name, step in steps.items():
        seen: set[str] = set()
        for index, need in enumerate(step.needs):
            place = at + pointer(name, "needs", index)
            if need == name:
                yield Problem(place, "self_dependency", f"`{name}` needs itself; remove it")
            elif need not in steps:
                message = f"There is no step `{need}`{did_you_mean(need, steps)}"
                yield Problem(place, "unknown_dependency", message)
            elif need in seen:
                yield Problem(place, "duplicate_dependency", f"`{need}` is named twice; keep one")
            seen.add(need)


def _cycle_problems(scope: Scope, *, at: str) -> Iterator[Problem]:
    for cycle in scope.cycles:
        message = f"Steps wait for each other: {_shown(cycle)}; remove one of these needs"
        yield Problem(at + pointer(cycle[-1], "needs"), "cycle", message)
    if not scope.cycles:
        return
    members = {name for cycle in scope.cycles for name in cycle}
    for name in sorted(_downstream(scope.known_needs, members) - members):
        message = f"`{name}` is never reached, since it needs a step of a cycle"
        yield Problem(at + pointer(name), "unreachable", message)


def _shown(cycle: tuple[str, ...]) -> str:
    return " -> ".join(cycle if len(cycle) <= 20 else (*cycle[:19], "...", cycle[-1]))


def _downstream(needs: Mapping[str, list[str]], start: set[str]) -> set[str]:
    followers: dict[str, list[str]] = {name: [] for name in needs}
    for name, of_step in needs.items():
        for need in of_step:
            followers[need].append(name)
    found, waiting = set(start), list(start)
    while waiting:
        fresh = [name for name in followers[waiting.pop()] if name not in found]
        found.update(fresh)
        waiting += fresh
    return found


def _never_run(scope: Scope, *, at: str) -> Iterator[Problem]:
    """Steps behind a condition that reads nothing and is false."""
    never: set[str] = set()
    for name in scope.order:
        needs = scope.needs[name]
        if _is_never(scope.steps[name].when):
            message = f"`{name}` is never reached, since its condition is always false"
        elif needs and never.issuperset(needs):
            message = f"`{name}` is never reached, since none of its needs ever runs"
        else:
            continue
        never.add(name)
        yield Problem(at + pointer(name), "unreachable", message)


def _is_never(source: str | None) -> bool:
    if source is None:
        return False
    try:
        condition = compile_condition(source)
        return not condition.roots and not condition.evaluate({})
    except ConditionError:
        return False
