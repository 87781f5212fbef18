"""From a plain mapping to a WorkflowSpec and back, with every problem reported at once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import ValidationError

from orchestrator.core.collector import paused_collector
from orchestrator.core.complaints import MESSAGES, complaint
from orchestrator.core.errors import WorkflowInvalidError
from orchestrator.core.jsonvalue import Json, copy_json, foreign_problem
from orchestrator.core.problems import Problem, limited, pointer
from orchestrator.core.shape import agent_shape, workflow_shape
from orchestrator.core.spec import AgentSpec, Part, WorkflowSpec
from orchestrator.core.values import NAME_PATTERN

PartT = TypeVar("PartT", bound=Part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """What could be read. `broken` steps stand in `spec` by name and needs alone."""

    spec: WorkflowSpec | None
    problems: tuple[Problem, ...] = ()
    broken: frozenset[str] = field(default_factory=frozenset)


def spec_from_mapping(data: object) -> WorkflowSpec:
    """The spec, or WorkflowInvalidError with everything that its form gets wrong.

    The spec keeps `data` and must be its only owner from now on. `steps` may be a mapping by
    name or a list of steps with a `name` each.
    """
    parsed = parse(data)
    if parsed.problems or parsed.spec is None:
        raise WorkflowInvalidError(parsed.problems)
    return parsed.spec


def spec_to_mapping(spec: WorkflowSpec) -> dict[str, Json]:
    """What the author wrote, in the author's order, with `steps` as a mapping by name."""
    return {
        key: _by_name(value) if key == "steps" else copy_json(value)
        for key, value in spec.written.items()
    }


def spec_to_stored(spec: WorkflowSpec) -> dict[str, Json]:
    """The same with `steps` as a list, for stores that do not keep the order of keys."""
    return {key: copy_json(value) for key, value in spec.written.items()}


def agent_from_mapping(data: object) -> AgentSpec:
    """A saved agent's content, checked like one that a step describes in place."""
    foreign = foreign_problem(data)
    if foreign:
        raise WorkflowInvalidError([foreign])
    problems = list(agent_shape(data, at=""))
    agent = _build(AgentSpec, data, problems=problems)
    if problems or agent is None:
        raise WorkflowInvalidError(problems)
    return agent


@paused_collector()
def parse(data: object) -> Parsed:
    """As much of the spec as can be read, so that its meaning can be checked as well."""
    foreign = foreign_problem(data)
    if foreign:
        return Parsed(spec=None, problems=(foreign,))
    if not isinstance(data, dict):
        return Parsed(spec=None, problems=(Problem("", "wrong_type", MESSAGES["dict_type"]),))
    problems: list[Problem] = []
    listed: dict[str, Json] = dict(data)
    if "steps" in data:
        listed["steps"] = _listed(data["steps"], at="/steps", problems=problems)
    problems += limited(workflow_shape(listed))
    spec = _build(WorkflowSpec, listed, problems=problems)
    if problems or spec is None:
        return _salvaged(listed, problems=problems)
    spec.remember(listed)
    return Parsed(spec=spec)


def _listed(steps: Json, *, at: str, problems: list[Problem]) -> Json:
    """Steps as a list in which each knows its name, down through the loops."""
    if isinstance(steps, dict):
        steps = [_named(step, name=name, at=at, problems=problems) for name, step in steps.items()]
    if not isinstance(steps, list):
        return steps
    return [_listed_loop(step, at=at, problems=problems) for step in steps]


def _named(step: Json, *, name: str, at: str, problems: list[Problem]) -> Json:
    if step is None:
        return {"name": name}
    if not isinstance(step, dict):
        problems.append(Problem(at + pointer(name), "wrong_type", MESSAGES["dict_type"]))
        return {"name": name}
    if "name" in step:
        message = "A step in a mapping is named by its key; remove `name`"
        problems.append(Problem(at + pointer(name, "name"), "unknown_field", message))
    return {**step, "name": name}


def _listed_loop(step: Json, *, at: str, problems: list[Problem]) -> Json:
    if not isinstance(step, dict):
        return step
    loop = step.get("loop")
    if not isinstance(loop, dict) or "steps" not in loop:
        return step
    place = at + pointer(str(step.get("name")), "loop", "steps")
    return {**step, "loop": {**loop, "steps": _listed(loop["steps"], at=place, problems=problems)}}


def _by_name(steps: Json) -> Json:
    if not isinstance(steps, list):
        return steps
    named: dict[str, Json] = {}
    for step in steps:
        if isinstance(step, dict):
            body = {key: copy_json(value) for key, value in step.items() if key != "name"}
            loop = step.get("loop")
            if isinstance(loop, dict):
                body["loop"] = {**loop, "steps": _by_name(loop.get("steps"))}
            named[str(step["name"])] = body
    return named


def _build(model: type[PartT], data: object, *, problems: list[Problem]) -> PartT | None:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        problems += limited(complaint(detail, data=data) for detail in details)
    return None


def _salvaged(listed: Mapping[str, Json], *, problems: list[Problem]) -> Parsed:
    """The spec without what is wrong; a step with a problem keeps its name and its needs."""
    faulty = [problem.loc.split("/")[1:3] for problem in problems]
    broken = {parts[1] for parts in faulty if parts[:1] == ["steps"] and len(parts) > 1}
    fields = {parts[0] for parts in faulty if parts}
    rest = {key: value for key, value in listed.items() if key not in fields}
    steps = listed.get("steps")
    stubs = [_stub(step, broken=broken) for step in steps] if isinstance(steps, list) else []
    spec = _build(
        WorkflowSpec,
        {**rest, "name": rest.get("name", "unnamed"), "steps": _first_of_each(stubs)},
        problems=[],
    )
    return Parsed(spec=spec, problems=tuple(problems), broken=frozenset(broken))


def _stub(step: Json, *, broken: set[str]) -> Json:
    if not isinstance(step, dict) or step.get("name") not in broken:
        return step
    needs = step.get("needs")
    known: list[Json] = (
        [need for need in needs if isinstance(need, str)] if isinstance(needs, list) else []
    )
    return {"name": step["name"], "needs": known, "agent": "broken"}


def _first_of_each(steps: list[Json]) -> list[Json]:
    """Steps that can be referred to: named rightly, the first of each name."""
    named: dict[str, Json] = {}
    for step in steps:
        name = step.get("name") if isinstance(step, dict) else None
        if isinstance(name, str) and re.fullmatch(NAME_PATTERN, name):
            named.setdefault(name, step)
    return list(named.values())
