"""From a plain mapping to a WorkflowSpec and back, with every problem reported at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final, TypeVar

from pydantic import ValidationError

from orchestrator.core.collector import paused_collector
from orchestrator.core.errors import WorkflowInvalidError
from orchestrator.core.jsonvalue import Json, copy_json, foreign_problem
from orchestrator.core.problems import Problem, limited, pointer
from orchestrator.core.spec import (
    FIELDS_OF_AGENT,
    STEP_KINDS,
    AgentSpec,
    ApprovalSpec,
    Defaults,
    LoopSpec,
    MapSpec,
    Part,
    RetrySpec,
    StepSpec,
    WorkflowSpec,
)
from orchestrator.core.values import NAME_PATTERN, REF_PATTERN, SLUG_PATTERN

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

PartT = TypeVar("PartT", bound=Part)

_COMMON = {"name", "description", "needs", "when", "join", "optional", "priority"}
_COSTLY = {"retry", "timeout", "max_cost_usd"}
_FIELDS_OF_KIND: Final[Mapping[str, frozenset[str]]] = {
    "agent": frozenset(StepSpec.model_fields) - {"workflow", "input", "loop", "approval", "delay"},
    "workflow": frozenset(_COMMON | _COSTLY | {"workflow", "input", "map"}),
    "loop": frozenset(_COMMON | _COSTLY | {"loop"}),
    "approval": frozenset(_COMMON | {"approval"}),
    "delay": frozenset(_COMMON | {"delay"}),
}
_NEEDED_BY_AGENT: Final[Mapping[str, str]] = {
    "tool": "tool",
    "router": "routes",
    "custom": "implementation",
}
_DEGRADE_ACTIONS = ("use", "map_items", "skip", "ask")
_CODES: Final[Mapping[str, str]] = {
    "missing": "required",
    "extra_forbidden": "unknown_field",
    "literal_error": "not_one_of",
    "string_pattern_mismatch": "bad_format",
}
_PATTERNS: Final[Mapping[str, str]] = {
    NAME_PATTERN: "Use up to 63 lower-case letters, digits and _, beginning with a letter",
    SLUG_PATTERN: "Use up to 63 lower-case letters, digits, - and _, beginning and ending with "
    "a letter or digit",
    REF_PATTERN: "Write a workflow's name, or name@3 for its version 3",
}
_PARTS: Final[tuple[type[Part], ...]] = (
    WorkflowSpec,
    StepSpec,
    AgentSpec,
    LoopSpec,
    MapSpec,
    ApprovalSpec,
    RetrySpec,
    Defaults,
)
_FIELD_NAMES: Final = sorted({name for part in _PARTS for name in part.model_fields})
_MESSAGES: Final[Mapping[str, str]] = {
    "string_type": "Write text here; quote it if it looks like a number",
    "int_type": "Write a whole number without quotes",
    "float_type": "Write a number without quotes",
    "bool_type": "Write true or false",
    "list_type": "Write a list, such as [a, b]",
    "dict_type": "Write a mapping of names to values",
    "model_type": "Write a mapping of names to values",
    "model_attributes_type": "Write a mapping of names to values",
}


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
    problems = list(_agent_shape(data, at=""))
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
        return Parsed(spec=None, problems=(Problem("", "wrong_type", _MESSAGES["dict_type"]),))
    problems: list[Problem] = []
    listed: dict[str, Json] = dict(data)
    if "steps" in data:
        listed["steps"] = _listed(data["steps"], at="/steps", problems=problems)
    problems += limited(_workflow_shape(listed))
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
        problems.append(Problem(at + pointer(name), "wrong_type", _MESSAGES["dict_type"]))
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
        problems += limited(_problem(detail, data=data) for detail in details)
    return None


def _problem(detail: ErrorDetails, *, data: object) -> Problem:
    kind = detail["type"]
    return Problem(
        _place(detail["loc"], data=data),
        _CODES.get(kind, "wrong_type" if kind.endswith("_type") else kind),
        _message(detail),
    )


def _place(loc: tuple[int | str, ...], *, data: object) -> str:
    """The pointer of a pydantic location: steps by name, without the tags of unions."""
    parts: list[int | str] = []
    node = data
    for part in loc:
        if parts[-1:] == ["agent"] and part in {"inline", "slug"}:
            continue
        node = _child(node, part)
        is_step = isinstance(part, int) and parts[-1:] == ["steps"]
        name = _child(node, "name") if is_step else None
        parts.append(name if isinstance(name, str) else part)
    return pointer(*parts)


def _child(node: object, part: int | str) -> object:
    if isinstance(node, dict):
        return node.get(part)
    if isinstance(node, list) and isinstance(part, int) and part < len(node):
        return node[part]
    return None


def _message(detail: ErrorDetails) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    subject = str(detail["loc"][-1]) if detail["loc"] else "The document"
    if kind == "missing":
        return f"{subject} is required"
    if kind == "extra_forbidden":
        return f"`{subject}` is not known here{_suggestion(subject)}"
    if kind == "literal_error":
        return f"Write one of {context['expected']}"
    if kind == "string_pattern_mismatch":
        return _PATTERNS.get(str(context["pattern"]), detail["msg"])
    return _MESSAGES.get(kind, detail["msg"].replace("Input should be", "Must be"))


def _suggestion(name: str) -> str:
    close = get_close_matches(name, _FIELD_NAMES, n=1)
    return f"; did you mean `{close[0]}`?" if close else "; remove it"


def _workflow_shape(listed: Mapping[str, Json]) -> Iterator[Problem]:
    """What a schema of fields cannot say: which of them may stand together."""
    yield from _steps_shape(listed.get("steps"), at="/steps")
    rules = listed.get("degrade")
    for index, rule in enumerate(rules if isinstance(rules, list) else ()):
        if isinstance(rule, dict) and sum(action in rule for action in _DEGRADE_ACTIONS) != 1:
            message = f"Write exactly one of {', '.join(_DEGRADE_ACTIONS)}"
            yield Problem(pointer("degrade", index), "exactly_one", message)


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
    yield from _agent_shape(step.get("agent"), at=at + "/agent")
    loop = step.get("loop")
    if isinstance(loop, dict):
        yield from _steps_shape(loop.get("steps"), at=at + "/loop/steps")


def _agent_shape(agent: object, *, at: str) -> Iterator[Problem]:
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
