"""Steps that an agent adds to its run: a small workflow whose one outer step is the adding one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from orchestrator.core.errors import AddedStepsError
from orchestrator.core.jsonvalue import Json
from orchestrator.core.plan import Plan, PlannedStep
from orchestrator.core.problems import Problem

# The column that places are written into.
MAX_PLACE: Final = 400
_SHOWN: Final = 10
_ITEM: Final = len("[9999]")
_ROUND: Final = len("[999].")
# What added steps share with the workflow that they are added to.
_INHERITED: Final = ("strategy", "max_parallel", "failure", "inputs", "defaults")
# Gives anything, as far as validation knows.
_ADDING: Final[Mapping[str, Json]] = {"agent": {"type": "aggregator"}, "output_schema": {}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fragment:
    """What an agent wants added, by the step named `by` of a workflow written as `header`."""

    by: str
    header: Mapping[str, Json]
    steps: Json
    output: Json = None

    def as_workflow(self) -> dict[str, Json]:
        """To be examined: the adding step stands in it, and the added ones come after it."""
        if isinstance(self.steps, list):
            after = [self._after(step) for step in self.steps]
            return self._written([*after, {**_ADDING, "name": self.by}])
        if isinstance(self.steps, dict):
            named = {name: self._after(step) for name, step in self.steps.items()}
            return self._written({self.by: {**_ADDING}, **named})
        return self._written(self.steps)

    def alone(self) -> dict[str, Json]:
        """To be compiled: the added steps without the adding one."""
        if isinstance(self.steps, dict):
            return self._written({name: self._freed(step) for name, step in self.steps.items()})
        return self._written([self._freed(step) for step in self._listed])

    @property
    def names(self) -> list[str]:
        if isinstance(self.steps, dict):
            return list(self.steps)
        return [str(step.get("name")) for step in self._listed if isinstance(step, dict)]

    @property
    def _listed(self) -> list[Json]:
        return self.steps if isinstance(self.steps, list) else []

    def _written(self, steps: Json) -> dict[str, Json]:
        inherited = {name: self.header[name] for name in _INHERITED if name in self.header}
        written: dict[str, Json] = {"muster": 1, "name": "added", **inherited, "steps": steps}
        return written if self.output is None else {**written, "output": self.output}

    def _after(self, step: Json) -> Json:
        if isinstance(step, dict) and not step.get("needs"):
            return {**step, "needs": [self.by]}
        return step

    def _freed(self, step: Json) -> Json:
        needs = step.get("needs") if isinstance(step, dict) else None
        if not isinstance(step, dict) or not isinstance(needs, list):
            return step
        return {**step, "needs": [need for need in needs if need != self.by]}


def refused(problems: Sequence[Problem]) -> AddedStepsError:
    """The error of an addition that makes no sense, with the place of each problem in it."""
    shown = "; ".join(f"{problem.loc or '/'}: {problem.message}" for problem in problems[:_SHOWN])
    more = f"; and {len(problems) - _SHOWN} more problems" if len(problems) > _SHOWN else ""
    return AddedStepsError(f"The steps that it adds cannot run: {shown}{more}")


def check_depth(depth: int, *, most: int) -> None:
    """Raises AddedStepsError if additions stand deeper below each other than they may."""
    if depth > most:
        raise AddedStepsError(
            f"Added steps add steps deeper than {most} (MUSTER_MAX_ADDED_DEPTH); "
            "let this step do its work itself"
        )


def check_places(place: str, plan: Plan) -> None:
    """Raises AddedStepsError if an added step would stand at a place too long to be written."""
    if len(place) + 1 + _longest(plan.steps) > MAX_PLACE:
        raise AddedStepsError(f"The names below `{place}` grow too long; choose shorter ones")


def _longest(steps: Sequence[PlannedStep]) -> int:
    return max(map(_length, steps), default=0)


def _length(step: PlannedStep) -> int:
    own = len(step.name) + (_ITEM if step.map else 0)
    return own + _ROUND + _longest(step.loop.body.steps) if step.loop else own
