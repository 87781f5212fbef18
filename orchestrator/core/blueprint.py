"""Workflows that ship ready-made, each a spec or a bundle with all that it needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from orchestrator.core.bundle import FORMAT, Bundle, bundle_of
from orchestrator.core.input_example import example_input
from orchestrator.core.jsonvalue import Json
from orchestrator.core.values import JsonObject
from orchestrator.core.yaml_io import load_text

_AGENT_PARTS: Final[Mapping[str, str]] = {
    "evaluator": "evaluator",
    "router": "router",
    "planner": "planner",
}
_STEP_PARTS: Final[Mapping[str, str]] = {
    "map": "map",
    "loop": "loop",
    "approval": "approval",
    "when": "condition",
    "workflow": "sub-workflow",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint:
    """`notes` stand at the head of the file behind `# Models:`, which suit and what to expect."""

    notes: str
    bundle: Bundle

    @property
    def name(self) -> str:
        return self.bundle.main.name

    @property
    def spec(self) -> JsonObject:
        return self.bundle.main.spec

    @property
    def description(self) -> str:
        return str(self.spec.get("description") or "")

    @property
    def module(self) -> str:
        return str(self.spec.get("module") or "")

    @property
    def parts(self) -> list[str]:
        """What it shows: `map`, `loop`, `approval` and so on, in the order of the alphabet."""
        specs = (each.spec for each in self.bundle.workflows)
        found = {part for spec in specs for step in _steps(spec) for part in _parts(step)}
        return sorted(found)

    @property
    def example(self) -> Json:
        """An input that a run of it can be started with."""
        return example_input(self.spec.get("inputs"))

    @property
    def model(self) -> tuple[str, str]:
        """The provider and the model that it asks unless told otherwise."""
        defaults = self.spec.get("defaults")
        chosen = defaults if isinstance(defaults, dict) else {}
        return str(chosen.get("provider") or ""), str(chosen.get("model") or "")

    def document(self, *, provider: str = "", model: str = "") -> JsonObject:
        """It as a bundle to install; with a provider and a model, asking these instead."""
        document = self.bundle.as_mapping()
        return _asking(document, {"provider": provider, "model": model}) if provider else document


def blueprint_of(source: str) -> Blueprint:
    """The blueprint of a file. Raises SpecSyntaxError, and BundleInvalidError for a broken one."""
    document = load_text(source)
    if "muster_bundle" not in document:
        document = {"muster_bundle": FORMAT, "workflows": [{"spec": document}]}
    return Blueprint(notes=_head(source), bundle=bundle_of(document))


def _head(source: str) -> str:
    lines = []
    for line in source.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("#").strip())
    notes = " ".join(lines).removeprefix("Models:").strip()
    return notes[:1].upper() + notes[1:]


def _asking(document: JsonObject, chosen: Mapping[str, Json]) -> JsonObject:
    agents, workflows = document["agents"], document["workflows"]
    return {
        **document,
        "agents": {slug: {**agent, **chosen} for slug, agent in _mappings(agents).items()},
        "workflows": [
            {**each, "spec": _spec_asking(each["spec"], chosen)}
            for each in (workflows if isinstance(workflows, list) else [])
            if isinstance(each, dict)
        ],
    }


def _spec_asking(spec: Json, chosen: Mapping[str, Json]) -> Json:
    if not isinstance(spec, dict):
        return spec
    defaults = spec.get("defaults")
    return {**spec, "defaults": {**(defaults if isinstance(defaults, dict) else {}), **chosen}}


def _mappings(value: Json) -> dict[str, JsonObject]:
    found = value if isinstance(value, dict) else {}
    return {name: each for name, each in found.items() if isinstance(each, dict)}


def _steps(part: Mapping[str, Json]) -> Iterator[JsonObject]:
    for step in _mappings(part.get("steps")).values():
        yield step
        loop = step.get("loop")
        if isinstance(loop, dict):
            yield from _steps(loop)


def _parts(step: JsonObject) -> Iterator[str]:
    yield from (part for field, part in _STEP_PARTS.items() if field in step)
    agent = step.get("agent")
    if not isinstance(agent, dict):
        return
    if agent.get("type") in _AGENT_PARTS:
        yield _AGENT_PARTS[str(agent["type"])]
    if agent.get("delegates"):
        yield "delegation"
    if agent.get("memory") or agent.get("tool") in ("remember", "recall"):
        yield "memory"
