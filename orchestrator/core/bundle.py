"""A workflow with all that it needs beside it, as one document: agents and sub-workflows.

The workflow itself comes last, those that it calls before it, each version of them once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from orchestrator.core.errors import BundleInvalidError
from orchestrator.core.jsonvalue import Json
from orchestrator.core.problems import Problem, limited, pointer
from orchestrator.core.values import JsonObject

FORMAT: Final = 1
MAX_PARTS: Final = 500
_FIELDS: Final = frozenset({"muster_bundle", "agents", "workflows"})
_OF_WORKFLOW: Final = frozenset({"version", "spec"})


@dataclass(frozen=True, slots=True, kw_only=True)
class BundledWorkflow:
    """A spec, and the number that it had as a version where it comes from, if it was one."""

    spec: JsonObject
    version: int | None = None

    @property
    def name(self) -> str:
        return str(self.spec.get("name"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """`agents` by slug, each as an author would describe it, with `name` and `description`."""

    workflows: Sequence[BundledWorkflow]
    agents: Mapping[str, JsonObject]

    @property
    def main(self) -> BundledWorkflow:
        return self.workflows[-1]

    def as_mapping(self) -> JsonObject:
        return {
            "muster_bundle": FORMAT,
            "agents": {slug: dict(agent) for slug, agent in self.agents.items()},
            "workflows": [_written(each) for each in self.workflows],
        }

    def renamed(self, names: Names) -> Bundle:
        """The same under other names, where there are such; what refers to them follows."""
        return Bundle(
            workflows=[
                replace(each, spec={**names.in_spec(each.spec), "name": names.workflow(each.name)})
                for each in self.workflows
            ],
            agents={
                names.agent(slug): names.in_agent(agent) for slug, agent in self.agents.items()
            },
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Other names for agents and workflows; `references` to versions go before names."""

    agents: Mapping[str, str] = field(default_factory=dict)
    workflows: Mapping[str, str] = field(default_factory=dict)
    references: Mapping[str, str] = field(default_factory=dict)

    def agent(self, slug: str) -> str:
        return self.agents.get(slug, slug)

    def workflow(self, reference: str) -> str:
        name, at, number = reference.partition("@")
        return self.references.get(reference) or self.workflows.get(name, name) + at + number

    def in_spec(self, spec: JsonObject) -> JsonObject:
        """The spec with these names in its steps, those in loops too."""
        return _with_steps(spec, lambda _, step: self.in_step(step))

    def in_agent(self, agent: JsonObject) -> JsonObject:
        return {
            **agent,
            **{
                name: [change(each) for each in texts_in(agent, name)]
                for name, change in (("delegates", self.agent), ("workflows", self.workflow))
                if name in agent
            },
        }

    def in_step(self, step: JsonObject) -> JsonObject:
        agent, workflow = step.get("agent"), step.get("workflow")
        changed = dict(step)
        if isinstance(agent, str):
            changed["agent"] = self.agent(agent)
        elif isinstance(agent, dict):
            changed["agent"] = self.in_agent(agent)
        if isinstance(workflow, str):
            changed["workflow"] = self.workflow(workflow)
        return changed


def bundle_of(data: Mapping[str, Json]) -> Bundle:
    """The bundle of a document. Raises BundleInvalidError with every problem of its form."""
    problems = limited(_form_problems(data))
    if problems:
        raise BundleInvalidError(problems)
    agents, workflows = data.get("agents"), data["workflows"]
    return Bundle(
        agents={slug: dict(each) for slug, each in _mappings(agents)},
        workflows=[_read(each) for each in workflows if isinstance(each, dict)]
        if isinstance(workflows, list)
        else [],
    )


def agents_named(spec: Mapping[str, Json]) -> list[str]:
    """The saved agents of its steps, and those that agents described in place may ask."""
    return [name for step in _steps(spec) for name in _named(step, "agent", "delegates")]


def capabilities_named(spec: Mapping[str, Json]) -> set[str]:
    """Those that its steps name in the place of an agent."""
    agents = (step.get("agent") for step in _steps(spec))
    return {
        str(each["capability"])
        for each in agents
        if isinstance(each, dict) and "capability" in each
    }


def workflows_named(spec: Mapping[str, Json]) -> list[str]:
    return [name for step in _steps(spec) for name in _named(step, "workflow", "workflows")]


def workflows_of_agents(spec: Mapping[str, Json]) -> list[str]:
    """Those that agents described in place may start."""
    agents = (step.get("agent") for step in _steps(spec))
    return [
        name for agent in agents if isinstance(agent, dict) for name in texts_in(agent, "workflows")
    ]


def texts_in(part: Mapping[str, Json], name: str) -> list[str]:
    """The texts in a list; nothing, if it is none."""
    value = part.get(name)
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _named(step: Mapping[str, Json], key: str, of_agent: str) -> list[str]:
    named, agent = step.get(key), step.get("agent")
    own = [named] if isinstance(named, str) else []
    return own + (texts_in(agent, of_agent) if isinstance(agent, dict) else [])


def pinned(
    spec: JsonObject, *, calls: Mapping[str, str], current: Mapping[str, str] | None = None
) -> JsonObject:
    """The spec with a number behind references to workflows that have none.

    `calls` has by a step's place what it calls, `current` by a workflow's name what else is meant.
    """
    names = Names(references=current or {})

    def changed(place: str, step: JsonObject) -> JsonObject:
        exact = calls.get(place)
        named = names.in_step(step)
        is_open = exact is not None and exact.partition("@")[0] == step.get("workflow")
        return {**named, "workflow": exact} if is_open else named

    return _with_steps(spec, changed)


def _with_steps(
    part: JsonObject, change: Callable[[str, JsonObject], JsonObject], *, below: str = ""
) -> JsonObject:
    """`change` is told the place of each step: its name, behind that of the loop it is in."""

    def changed(name: Json, step: Json) -> Json:
        if not isinstance(step, dict):
            return step
        loop, place = step.get("loop"), f"{below}{name}"
        if not isinstance(loop, dict):
            return change(place, step)
        return {**change(place, step), "loop": _with_steps(loop, change, below=f"{place}.")}

    steps = part.get("steps")
    if isinstance(steps, dict):
        return {**part, "steps": {name: changed(name, step) for name, step in steps.items()}}
    if isinstance(steps, list):
        return {**part, "steps": [changed(_name(step), step) for step in steps]}
    return part


def _name(step: Json) -> Json:
    return step.get("name") if isinstance(step, dict) else None


def _steps(part: Mapping[str, Json]) -> Iterator[Mapping[str, Json]]:
    steps = part.get("steps")
    listed = list(steps.values()) if isinstance(steps, dict) else steps
    for step in listed if isinstance(listed, list) else ():
        if isinstance(step, dict):
            yield step
            loop = step.get("loop")
            if isinstance(loop, dict):
                yield from _steps(loop)


def _form_problems(data: Mapping[str, Json]) -> Iterator[Problem]:
    if data.get("muster_bundle") != FORMAT:
        message = f"Write `muster_bundle: {FORMAT}`; this is no bundle of that format"
        yield Problem("/muster_bundle", "unknown_format", message)
        return
    for name in data.keys() - _FIELDS:
        yield Problem(pointer(name), "unknown_field", f"`{name}` is not known here; remove it")
    agents, workflows = data.get("agents", {}), data.get("workflows")
    if not isinstance(agents, dict) or not all(isinstance(each, dict) for each in agents.values()):
        yield Problem("/agents", "wrong_type", "Write a mapping of agents by their slugs")
    elif len(agents) > MAX_PARTS:
        yield Problem("/agents", "too_many", f"There are more than {MAX_PARTS}")
    if not isinstance(workflows, list) or not 0 < len(workflows) <= MAX_PARTS:
        message = f"Write a list of 1 to {MAX_PARTS} workflows, the one that calls the others last"
        yield Problem("/workflows", "wrong_type", message)
        return
    seen: set[tuple[str, Json]] = set()
    for index, each in enumerate(workflows):
        yield from _workflow_problems(each, pointer("workflows", index), seen)


def _workflow_problems(each: Json, at: str, seen: set[tuple[str, Json]]) -> Iterator[Problem]:
    spec = each.get("spec") if isinstance(each, dict) else None
    if not isinstance(each, dict) or not isinstance(spec, dict):
        yield Problem(at, "wrong_type", "Write a mapping with `spec`, and `version` if it was one")
        return
    for name in each.keys() - _OF_WORKFLOW:
        message = f"`{name}` is not known here; remove it"
        yield Problem(at + pointer(name), "unknown_field", message)
    version = each.get("version")
    if version is not None and (type(version) is not int or version < 1):
        yield Problem(at + "/version", "wrong_type", "Write a whole number of at least 1")
    key = (str(spec.get("name")), str(version))
    if key in seen:
        yield Problem(at, "duplicate_name", f"`{key[0]}` is there twice in this version")
    seen.add(key)


def _mappings(value: Json) -> Iterator[tuple[str, JsonObject]]:
    for name, each in value.items() if isinstance(value, dict) else ():
        if isinstance(each, dict):
            yield name, each


def _read(each: Mapping[str, Json]) -> BundledWorkflow:
    spec, version = each.get("spec"), each.get("version")
    return BundledWorkflow(
        spec=spec if isinstance(spec, dict) else {},
        version=version if isinstance(version, int) else None,
    )


def _written(each: BundledWorkflow) -> JsonObject:
    version: JsonObject = {} if each.version is None else {"version": each.version}
    return {**version, "spec": each.spec}
