"""Where an agent run stands in its run.

`write` is a step of the run, `section[3]` an item of a map, and `polish[1].write` a step in the
second round of a loop. Where a loop is gone through for each item of a list, `polish[3]` is an
item, and `polish[3][1].write` a step in its second round. `plan.research` is a step that the step
`plan` has added to its run, and `plan[3].research` one that an item of it has added. `plan.4`
stands for the steps that `plan` has delegated in its fourth turn, one of them `plan.4.research`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

from orchestrator.core.jsonvalue import Json
from orchestrator.core.plan import Plan, PlannedStep

T = TypeVar("T")
_NUMBER = re.compile(r"\[\d+\]|\.\d+")
# A number belongs to the name that it follows.
_BETWEEN = re.compile(r"\.(?!\d)")
# What the agent run at a place has added to its run.
Added: TypeAlias = Callable[[str], Plan]
# Ahead of a round stands the number of an item. `muster_claim_all` looks for the same.
_ITEM: Final = re.compile(r"(.*\[(\d+)\])\[\d+\]\.")


def name_at(place: str) -> str:
    """The step that stands at a place, as its own plan names it."""
    last = _BETWEEN.split(place)[-1]
    return last.partition(".")[0].partition("[")[0]


def defined(place: str) -> str:
    """Where the workflow says what stands there: `polish.write` for `polish[1].write`."""
    return _NUMBER.sub("", place)


def without_turn(place: str) -> str:
    """Who has delegated the steps that the agent run at a place stands for: `plan` for `plan.4`."""
    before, _, turn = place.rpartition(".")
    return before if turn.isdecimal() else place


def root_of(place: str) -> str:
    """The step of the run that an agent run belongs to in the end."""
    return place.partition(".")[0].partition("[")[0]


def _none_added(place: str) -> Plan:
    raise LookupError(f"{place} has added no steps")


def surroundings_of(place: str) -> Surroundings:
    """What the place alone tells, which is all that the names in templates depend on.

    The item that has added a step looks like a loop's round, whose variables nobody can name there.
    """
    outer = place.rpartition(".")[0]
    if not outer.endswith("]"):
        return Surroundings(outer)
    whole, _, number = outer.rpartition("[")
    return Surroundings(whole, int(number.rstrip("]")))


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The place that a step belongs to, none for a step of the run; and a loop's round, from 0."""

    whole: str = ""
    round: int | None = None

    @property
    def prefix(self) -> str:
        if self.round is None:
            return f"{self.whole}." if self.whole else ""
        return f"{self.whole}[{self.round}]."

    @property
    def previous_prefix(self) -> str:
        """Of the round before; empty in the first."""
        return f"{self.whole}[{self.round - 1}]." if self.round else ""

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
        if self.round is None:
            return {"steps": steps}
        return {"steps": steps, "loop": {"round": self.round + 1, "previous": previous}}


@dataclass(frozen=True, slots=True)
class Scope:
    """Steps that belong together, and what the others are called from there.

    Those of the run, of one round of a loop, or those that an agent run has added.
    """

    plan: Plan
    around: Surroundings = Surroundings()
    outer: Scope | None = None

    @classmethod
    def of(cls, plan: Plan, place: str, added: Added | None = None) -> Scope:
        """The scope that the agent run at a place stands in."""
        scope = cls(plan)
        for part in _BETWEEN.split(place)[:-1]:
            scope = scope._within(scope.place(part), added or _none_added)
        return scope

    def _within(self, whole: str, added: Added) -> Scope:
        if self.step_at(whole).loop is None:
            return self.with_added(whole, added(whole))
        loop, _, number = whole.rpartition("[")
        return self.in_round(loop, int(number.rstrip("]")))

    def in_round(self, loop: str, number: int) -> Scope:
        """The scope of a round of the loop at a place in this one."""
        step = self.step_at(loop)
        if step.loop is None:
            raise LookupError(f"{loop} is no loop")
        return Scope(step.loop.body, Surroundings(loop, number), self)

    def with_added(self, whole: str, body: Plan) -> Scope:
        """The scope of the steps that the agent run at a place in this one has added."""
        return Scope(body, Surroundings(whole), self)

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
        if self.around.round is None:
            # Added steps see nobody but who added them.
            return self.around.whole
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
            "is_heavy": step.is_heavy,
            "provider": step.provider,
            "model": step.model,
            "role": step.role,
            "timeout_seconds": step.timeout_seconds,
        }
