"""Where an agent run stands in its run.

`write` is a step of the run, `section[3]` an item of a map, and `polish[1].write` a step in the
second round of a loop. Where a loop is gone through for each item of a list, `polish[3]` is an
item, and `polish[3][1].write` a step in its second round.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from orchestrator.core.jsonvalue import Json
from orchestrator.core.plan import Plan, PlannedStep

T = TypeVar("T")
# Ahead of a round stands the number of an item. `muster_claim_all` looks for the same.
_ITEM: Final = re.compile(r"(.*\[(\d+)\])\[\d+\]\.")


def name_at(place: str) -> str:
    """The step that stands at a place, as its own plan names it."""
    return place.rpartition(".")[2].partition("[")[0]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The loop and the round, counted from 0, that a step stands in; none for a step of the run."""

    loop: str = ""
    round: int = 0

    @classmethod
    def of(cls, place: str) -> Surroundings:
        outer = place.rpartition(".")[0]
        if not outer:
            return cls()
        loop, _, number = outer.rpartition("[")
        return cls(loop, int(number.rstrip("]")))

    @property
    def prefix(self) -> str:
        return f"{self.loop}[{self.round}]." if self.loop else ""

    @property
    def previous_prefix(self) -> str:
        """Of the round before; empty in the first."""
        return f"{self.loop}[{self.round - 1}]." if self.loop and self.round else ""

    @property
    def item(self) -> tuple[str, int] | None:
        """The place and the number of the item that the innermost loop of a map is at."""
        found = _ITEM.match(self.prefix)
        return (found[1], int(found[2])) if found else None

    def variables(self, outputs: Mapping[str, Json]) -> dict[str, Json]:
        """What templates see of the outputs at some places: `steps`, and `loop` inside of one."""
        steps: dict[str, Json] = {}
        previous: dict[str, Json] = {}
        for place, output in outputs.items():
            is_previous = self.previous_prefix and place.startswith(self.previous_prefix)
            (previous if is_previous else steps)[name_at(place)] = {"output": output}
        if not self.loop:
            return {"steps": steps}
        return {"steps": steps, "loop": {"round": self.round + 1, "previous": previous}}


@dataclass(frozen=True, slots=True)
class Scope:
    """The steps of a run, or of one round of a loop, and what the others are called from there."""

    plan: Plan
    around: Surroundings = Surroundings()
    outer: Scope | None = None

    @classmethod
    def of(cls, plan: Plan, place: str) -> Scope:
        """The scope that the agent run at a place stands in."""
        around = Surroundings.of(place)
        return cls.of(plan, around.loop).inside(around) if around.loop else cls(plan)

    def inside(self, around: Surroundings) -> Scope:
        """The scope of a round of a loop that stands in this one."""
        loop = self.step_at(around.loop).loop
        if loop is None:
            raise LookupError(f"{around.loop} is no loop")
        return Scope(loop.body, around, self)

    def step_at(self, place: str) -> PlannedStep:
        return self.plan.step(name_at(place))

    def place(self, name: str) -> str:
        return self.around.prefix + name

    def name(self, place: str) -> str:
        return place.removeprefix(self.around.prefix)

    def named(self, by_place: Mapping[str, T]) -> dict[str, T]:
        """What concerns the scope's own steps, by name."""
        prefix = self.around.prefix
        return {self.name(place): by_place[place] for place in by_place if place.startswith(prefix)}

    def placed(self, by_name: Mapping[str, T]) -> dict[str, T]:
        return {self.place(name): value for name, value in by_name.items()}

    def places(self, names: Iterable[str], previous: Iterable[str] = ()) -> list[str]:
        """Where the named steps stand, and those of the round before."""
        found = [self._place_of(name) for name in names]
        if self.around.previous_prefix:
            found += [self.around.previous_prefix + name for name in previous]
        return found

    def _place_of(self, name: str) -> str:
        """Here, or in what is around: names inside a loop are local."""
        if self.outer is None or name in self.plan.names:
            return self.place(name)
        return self.outer._place_of(name)

    def row(self, step: PlannedStep) -> dict[str, Json]:
        """What the agent run of a step in a round is made of."""
        return {
            "step": self.place(step.name),
            "kind": step.kind,
            "priority": step.priority,
            "reads": [*self.places(step.reads, step.previous_reads)],
            "reads_input": step.reads_input,
            "agent": step.agent,
            "uses_model": step.uses_model,
            "provider": step.provider,
            "model": step.model,
            "role": step.role,
            "timeout_seconds": step.timeout_seconds,
        }
