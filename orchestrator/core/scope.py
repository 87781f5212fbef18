"""What variables exist at a place of a workflow, and what is known about their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

from agents_app.core.types import evaluator
from agents_app.core.types.router import route_schema
from orchestrator.core.conditions import Condition
from orchestrator.core.config import AgentConfig, agent_of, step_config
from orchestrator.core.errors import CyclicWorkflowError, TemplateSyntaxError
from orchestrator.core.graph import Ancestry, levels
from orchestrator.core.jsonvalue import Json
from orchestrator.core.schema import Nowhere, Place, Schema, follow
from orchestrator.core.spec import Defaults, StepSpec
from orchestrator.core.template import Path, parse

MAX_CYCLES = 20
TEXT: Final[Schema] = {"type": "string"}
_NAME: Final[Schema] = {"type": ["string", "null"]}  # null: nobody decided in time
_DECISION: Final[Schema] = {
    "type": "object",
    "required": ["decision", "by", "at", "form"],
    "properties": {"decision": TEXT, "by": _NAME, "at": TEXT, "form": {}},  # type: ignore[dict-item]
}
_INDEX: Final[Schema] = {"type": "integer"}
_OF_ITEMS: Final = frozenset({"item", "index"})


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a variable cannot be used where it stands."""

    code: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Scope:
    """The steps of a workflow, or of one loop inside it."""

    steps: Mapping[str, StepSpec]
    agents: Mapping[str, AgentConfig]
    defaults: Defaults
    inputs: Schema | None
    broken: frozenset[str] = frozenset()
    outer: Scope | None = None  # the workflow around a loop
    outer_step: str = ""  # the loop's name there
    schemas: dict[str, Schema | None] = field(default_factory=dict)
    configs: dict[str, dict[str, Json]] = field(default_factory=dict)

    def inside(self, steps: Mapping[str, StepSpec], *, loop: str) -> Scope:
        """The scope of the steps of a loop, from where what lies before the loop is seen."""
        return replace(
            self,
            steps=steps,
            broken=frozenset(),
            outer=self,
            outer_step=loop,
            schemas={},
            configs={},
        )

    @property
    def depth(self) -> int:
        """How many loops are around it."""
        return self.outer.depth + 1 if self.outer else 0

    @cached_property
    def known_needs(self) -> dict[str, list[str]]:
        return {
            name: [need for need in step.needs if need in self.steps and need != name]
            for name, step in self.steps.items()
        }

    @cached_property
    def cycles(self) -> tuple[tuple[str, ...], ...]:
        """Cycles, each found with one need of those before it taken away."""
        return self._cut[0]

    @cached_property
    def needs(self) -> dict[str, list[str]]:
        """The needs without those that close a cycle."""
        return self._cut[1]

    @cached_property
    def order(self) -> list[str]:
        """Every step after all that it needs."""
        return self._cut[2]

    @cached_property
    def _cut(self) -> tuple[tuple[tuple[str, ...], ...], dict[str, list[str]], list[str]]:
        needs = dict(self.known_needs)
        cycles: list[tuple[str, ...]] = []
        while len(cycles) < MAX_CYCLES:
            try:
                return tuple(cycles), needs, [name for level in levels(needs) for name in level]
            except CyclicWorkflowError as error:
                cycles.append(error.steps)
                before, after = error.steps[-2:]
                needs[after] = [need for need in needs[after] if need != before]
        return tuple(cycles), {name: [] for name in needs}, list(needs)

    @cached_property
    def ancestry(self) -> Ancestry:
        return Ancestry(self.needs)

    @cached_property
    def uncertain(self) -> frozenset[str]:
        """Steps whose output may be null though the run goes on."""
        found: set[str] = set()
        for name in self.order:
            step, needs = self.steps[name], self.needs[name]
            inherits = bool(needs) and found.issuperset(needs)
            rejected = not step.map and step.approval and step.approval.on_reject == "skip"
            if step.when is not None or step.optional or rejected or inherits:
                found.add(name)
        return frozenset(found)

    def resolve(self, path: Path, *, step: str | None) -> Place | Fault:
        """The place of a variable, seen from `step`, or from the end of the scope for None."""
        root, rest = path.parts[0], path.parts[1:]
        if root == "input":
            return _followed(self.inputs, rest, root="input", has_defaults=True)
        if root == "steps":
            return self._resolve_step(path, step=step)
        if root in _OF_ITEMS:
            return self._resolve_item(path, step=step)
        if root == "loop" and self.outer is not None:
            return self._resolve_loop(path)
        if root == "loop":
            return Fault("unknown_variable", "`loop` exists only in the steps of a loop")
        return Fault(
            "unknown_variable", f"There is no `{root}`; begin with input or with steps.NAME.output"
        )

    def resolve_before_map(self, path: Path, *, step: str | None) -> Place | Fault:
        """The same for what is asked once, before the step's own map has items."""
        if path.parts[0] in _OF_ITEMS:
            return self._resolve_item(path, step=None)
        return self.resolve(path, step=step)

    def read_by(self, condition: Condition, *, step: str | None) -> list[Fault]:
        """What is wrong with the steps and roots that a condition reads."""
        paths = [Path(("steps", name, "output")) for name in sorted(condition.steps)]
        paths += [Path((root,)) for root in sorted(condition.roots - {"steps", "loop"})]
        if "loop" in condition.roots:
            paths.append(Path(("loop", "round")))
        found = (self.resolve_before_map(path, step=step) for path in paths)
        return [fault for fault in found if isinstance(fault, Fault)]

    def _resolve_item(self, path: Path, *, step: str | None) -> Place | Fault:
        """In a step with `map`, or in a loop whose rounds are gone through for each item."""
        root, rest = path.parts[0], path.parts[1:]
        if step is not None and self.steps[step].map:
            schema = self._item_schema(step) if root == "item" else _INDEX
            return _followed(schema, rest, root=root)
        if self.outer is not None:
            return self.outer._resolve_item(path, step=self.outer_step)
        return Fault("unknown_variable", f"`{root}` exists only in a step with `map`")

    def _resolve_step(self, path: Path, *, step: str | None) -> Place | Fault:
        if len(path.parts) < 3 or path.parts[2] != "output":
            return Fault("unknown_variable", f"`{path}` is unknown; write steps.NAME.output")
        source = path.parts[1]
        if source not in self.steps:
            return self._resolve_outside(path, source=source)
        if step is not None and not self._is_before(source, step):
            return Fault(
                "not_upstream",
                f"`{source}` does not run before `{step}`; add it to the needs of `{step}`",
            )
        root = f"steps.{source}.output"
        place = _followed(self.output_schema(source), path.parts[3:], root=root)
        if isinstance(place, Place) and self._may_be_null(source, reader=step):
            return Place(schema=place.schema, may_be_missing=True)
        return place

    def _is_before(self, source: str, step: str) -> bool:
        if source in self.known_needs[step] or len(self.cycles) == MAX_CYCLES:
            return True
        return self.ancestry.has(step, ancestor=source)

    def _resolve_outside(self, path: Path, *, source: str) -> Place | Fault:
        if self.outer is not None:
            return self.outer._resolve_step(path, step=self.outer_step)
        if source in self.broken:
            return Place()
        return Fault("unknown_step", f"There is no step `{source}`")

    def _resolve_loop(self, path: Path) -> Place | Fault:
        match path.parts[1:]:
            case ("round",):
                return Place(schema=_INDEX)
            case ("previous", source, "output", *rest) if source in self.steps:
                root = f"loop.previous.{source}.output"
                place = _followed(self.output_schema(source), rest, root=root)
                # In the first round there is no previous one.
                return place if isinstance(place, Fault) else Place(may_be_missing=True)
        return Fault(
            "unknown_variable",
            f"`{path}` is unknown; write loop.round or loop.previous.NAME.output",
        )

    def _may_be_null(self, source: str, *, reader: str | None) -> bool:
        if source in self.uncertain:
            return True
        if reader is None:
            return False
        # It may have started before the others of its needs were done.
        step = self.steps[reader]
        return step.join == "any" and len(step.needs) > 1

    def output_schema(self, name: str) -> Schema | None:
        if name not in self.schemas:
            self.schemas[name] = None if name in self.broken else self._output_schema(name)
        return self.schemas[name]

    def _output_schema(self, name: str) -> Schema | None:
        step = self.steps[name]
        # What added steps come to is not known before they are.
        is_open = step.kind != "agent" or step.adds_steps
        schema = None if is_open else self._agent_schema(step)
        if step.kind == "approval":
            # An item that is rejected may be skipped.
            schema = {**_DECISION, "type": ["object", "null"]} if step.map else _DECISION
        if step.map:
            return {"type": "array", "items": dict(schema or {})}
        return schema

    def config(self, name: str) -> dict[str, Json]:
        """The step's agent as it will run; of an unknown agent, what the step says alone."""
        if name not in self.configs:
            step = self.steps[name]
            agent = agent_of(step, self.agents) or {}
            self.configs[name] = step_config(step, agent=agent, defaults=self.defaults)
        return self.configs[name]

    def _agent_schema(self, step: StepSpec) -> Schema | None:
        config = self.config(step.name)
        declared = config.get("output_schema")
        if isinstance(declared, dict):
            return declared
        return implied_schema(config, needs=step.needs)

    def _item_schema(self, name: str) -> Schema | None:
        mapped = self.steps[name].map
        try:
            lone = parse(mapped.over).lone if mapped else None
        except TemplateSyntaxError:  # told where the list itself is read
            return None
        first = lone.paths[0] if lone and len(lone.operands) == 1 and lone.paths else None
        place = self.resolve_before_map(first, step=name) if first else None
        schema = place.schema if isinstance(place, Place) else None
        items = schema.get("items") if schema else None
        return items if isinstance(items, dict) else None


def implied_schema(agent: AgentConfig, *, needs: Sequence[str]) -> Schema | None:
    """What agents of a type give when nobody declares it; None where that is open."""
    match agent.get("type"):
        case "prompt" | "react":
            return TEXT
        case "evaluator":
            return evaluator.OUTPUT_SCHEMA
        case "router":
            routes = agent.get("routes")
            return route_schema([str(each) for each in routes] if isinstance(routes, list) else [])
        case "aggregator":
            return _aggregated(str(agent.get("mode") or "collect"), needs=needs)
    return None


def _aggregated(mode: str, *, needs: Sequence[str]) -> Schema | None:
    if mode == "concat":
        return TEXT
    if mode == "merge":
        return {"type": "object"}
    properties: dict[str, Json] = {name: {} for name in needs}
    return {"type": "object", "required": list(needs), "properties": properties}


def _followed(
    schema: Schema | None, parts: Sequence[str], *, root: str, has_defaults: bool = False
) -> Place | Fault:
    place = follow(schema, parts, root=root, has_defaults=has_defaults)
    if isinstance(place, Nowhere):
        message = f"`{place.parent}` has no `{place.part}`; it offers {place.offers}"
        return Fault("unknown_variable", message)
    return place
