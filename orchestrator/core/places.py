"""Where an agent run stands in its run: `write`, `section[3]`, or `polish[1].write` in a loop."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from orchestrator.core.jsonvalue import Json
from orchestrator.core.plan import Plan, PlannedStep

T = TypeVar("T")
_NUMBER = re.compile(r"\[\d+\]")


def defined(place: str) -> str:
    """Where the workflow says what stands there: `polish.write` for `polish[1].write`."""
    return _NUMBER.sub("", place)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The loop and the round, counted from 0, that a step stands in; none for a step of the run."""

    loop: str = ""
    round: int = 0

    @classmethod
    def of(cls, place: str) -> Surroundings:
        outer, _, inner = place.rpartition(".")
        if not inner or not outer:
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

    def places(
        self, names: Iterable[str], *, local: Iterable[str], previous: Iterable[str] = ()
    ) -> list[str]:
        """Where the named steps stand, of which `local` are the loop's own."""
        own = frozenset(local)
        found = [self.prefix + name if name in own else name for name in names]
        if self.previous_prefix:
            found += [self.previous_prefix + name for name in previous]
        return found

    def variables(self, outputs: Mapping[str, Json]) -> dict[str, Json]:
        """What templates see of the outputs at some places: `steps`, and `loop` inside of one."""
        steps: dict[str, Json] = {}
        previous: dict[str, Json] = {}
        for place, output in outputs.items():
            if self.previous_prefix and place.startswith(self.previous_prefix):
                previous[place.removeprefix(self.previous_prefix)] = {"output": output}
            else:
                steps[place.removeprefix(self.prefix)] = {"output": output}
        if not self.loop:
            return {"steps": steps}
        return {"steps": steps, "loop": {"round": self.round + 1, "previous": previous}}


@dataclass(frozen=True, slots=True)
class Scope:
    """The steps of a run, or of one round of a loop, and what the others are called from there."""

    plan: Plan
    around: Surroundings = Surroundings()

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
        local = [step.name for step in self.plan.steps] if self.around.loop else ()
        return self.around.places(names, local=local, previous=previous)

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
