"""Checks what a schema of fields cannot say: which of them may stand together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from orchestrator.core.jsonvalue import Json
from orchestrator.core.problems import Problem, pointer
from orchestrator.core.spec import FIELDS_OF_AGENT, STEP_KINDS, AgentSpec, StepSpec

_COMMON = {"name", "description", "needs", "when", "join", "optional", "priority"}
_COSTLY = {"retry", "timeout", "max_cost_usd"}
_FIELDS_OF_KIND: Final[Mapping[str, frozenset[str]]] = {
    "agent": frozenset(StepSpec.model_fields) - {"workflow", "input", "loop", "approval", "delay"},
    "workflow": frozenset(_COMMON | _COSTLY | {"workflow", "input", "map"}),
    "loop": frozenset(_COMMON | _COSTLY | {"loop", "map"}),
    "approval": frozenset(_COMMON | {"approval", "map"}),
    "delay": frozenset(_COMMON | {"delay"}),
}
_NEEDED_BY_AGENT: Final[Mapping[str, str]] = {
    "tool": "tool",
    "router": "routes",
    "custom": "implementation",
}
_DEGRADE_ACTIONS = ("use", "map_items", "skip", "ask")


def workflow_shape(listed: Mapping[str, Json]) -> Iterator[Problem]:
    yield from _steps_shape(listed.get("steps"), at="/steps")
    rules = listed.get("degrade")
    for index, rule in enumerate(rules if isinstance(rules, list) else ()):
        if isinstance(rule, dict) and _actions(rule) != 1:
            message = f"Write exactly one of {', '.join(_DEGRADE_ACTIONS)}"
            yield Problem(pointer("degrade", index), "exactly_one", message)


def _actions(rule: Mapping[str, Json]) -> int:
    return sum(rule.get(action) is not None for action in _DEGRADE_ACTIONS)


def _steps_shape(steps: Json, *, at: str) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, step in enumerate(steps if isinstance(steps, list) else ()):
        if not isinstance(step, dict):
            continue
        name = step.get("name")
        if isinstance(name, str) and name in seen:
            message = f"Two steps are named `{name}`; rename one"
            yield Problem(at + pointer(index, "name"), "duplicate_name", message)
        place = at + pointer(name if isinstance(name, str) else index)
        seen.add(str(name))
        yield from _step_shape(step, at=place)


def _step_shape(step: Mapping[str, Json], *, at: str) -> Iterator[Problem]:
    kinds = [kind for kind in STEP_KINDS if step.get(kind) is not None]
    if len(kinds) != 1:
        found = " and ".join(kinds) or "none"
        message = f"Write exactly one of {', '.join(STEP_KINDS)}; there is {found}"
        yield Problem(at, "exactly_one", message)
        return
    kind = kinds[0]
    for name in StepSpec.model_fields.keys() & step.keys() - _FIELDS_OF_KIND[kind]:
        message = f"`{name}` does not apply to a step of kind {kind}; remove it"
        yield Problem(at + pointer(name), "not_applicable", message)
    yield from agent_shape(step.get("agent"), at=at + "/agent")
    loop = step.get("loop")
    if isinstance(loop, dict):
        yield from _steps_shape(loop.get("steps"), at=at + "/loop/steps")


def agent_shape(agent: object, *, at: str) -> Iterator[Problem]:
    if not isinstance(agent, dict):
        return
    kind = agent.get("type")
    if not isinstance(kind, str) or kind not in FIELDS_OF_AGENT:
        return
    for name in AgentSpec.model_fields.keys() & agent.keys() - FIELDS_OF_AGENT[kind]:
        message = f"`{name}` does not apply to an agent of type {kind}; remove it"
        yield Problem(at + pointer(name), "not_applicable", message)
    needed = _NEEDED_BY_AGENT.get(kind)
    if needed and agent.get(needed) is None:
        message = f"An agent of type {kind} needs `{needed}`"
        yield Problem(at + pointer(needed), "required", message)
