"""Facts about a graph of steps, given as the needs of each. Pure, and about linear in its edges.

Needs that are no steps of the graph are left out: the validator reports them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import TypeAlias

from orchestrator.core.errors import CyclicWorkflowError

Needs: TypeAlias = Mapping[str, Sequence[str]]


def find_cycle(needs: Needs) -> tuple[str, ...] | None:
    """Steps that wait for each other, each before the next, the first repeated at the end."""
    try:
        _sorter(needs).prepare()
    except CycleError as error:
        return tuple(error.args[1])
    return None


def levels(needs: Needs) -> list[list[str]]:
    """Steps by level: each as early as its needs allow, in the order of `needs` inside a level.

    Raises CyclicWorkflowError.
    """
    sorter = _sorter(needs)
    try:
        sorter.prepare()
    except CycleError as error:
        raise CyclicWorkflowError(tuple(error.args[1])) from error
    place = {name: index for index, name in enumerate(needs)}
    found = []
    while sorter.is_active():
        level = sorted(sorter.get_ready(), key=place.__getitem__)
        sorter.done(*level)
        found.append(level)
    return found


def _sorter(needs: Needs) -> TopologicalSorter[str]:
    return TopologicalSorter(
        {name: [need for need in of_step if need in needs] for name, of_step in needs.items()}
    )


def entry_steps(needs: Needs) -> list[str]:
    """Steps that need nothing."""
    return [name for name, of_step in needs.items() if not of_step]


def exit_steps(needs: Needs) -> list[str]:
    """Steps that nothing needs."""
    needed = {need for of_step in needs.values() for need in of_step}
    return [name for name in needs if name not in needed]


def widest_level(needs: Needs) -> list[str]:
    """The first of the levels with the most steps."""
    return max(levels(needs), key=len, default=[])


def ancestors(needs: Needs, step: str) -> frozenset[str]:
    """All that must be settled before `step`, without itself unless it stands in a cycle."""
    found: set[str] = set()
    waiting = [need for need in needs.get(step, ()) if need in needs]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += (need for need in needs[name] if need in needs)
    return frozenset(found)


class Ancestry:
    """Answers `is a before b` for a whole graph without cycles.

    Sets of names would take 50 million entries for a chain of 10,000 steps; one bit per pair
    takes 12 MB.
    """

    def __init__(self, needs: Needs) -> None:
        self._needs = needs
        self._bit: dict[str, int] = {}
        self._masks: dict[str, int] = {}

    def has(self, step: str, *, ancestor: str) -> bool:
        if ancestor in self._needs[step]:
            return ancestor in self._needs
        if not self._masks:
            self._build()
        return ancestor in self._bit and bool(self._masks[step] >> self._bit[ancestor] & 1)

    def _build(self) -> None:
        order = [name for level in levels(self._needs) for name in level]
        self._bit = {name: index for index, name in enumerate(order)}
        for name in order:
            mask = 0
            for need in self._needs[name]:
                if need in self._bit:
                    mask |= self._masks[need] | 1 << self._bit[need]
            self._masks[name] = mask


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What a run takes, in the unit of the durations."""

    sequential: float  # one step after another
    levels: float  # each level as long as its longest step
    critical: float  # every step as soon as its own needs are done
    critical_path: tuple[str, ...]

    @property
    def saved(self) -> float:
        """What running level by level saves over one step after another."""
        return self.sequential - self.levels


def timing(needs: Needs, durations: Mapping[str, float]) -> Timing:
    """How long the graph takes in each way of running it. A step without a duration takes 0."""
    of_levels = levels(needs)
    finish: dict[str, float] = {}
    before: dict[str, str | None] = {}
    for level in of_levels:
        for name in level:
            latest = _latest(needs[name], finish)
            before[name] = latest
            start = finish[latest] if latest is not None else 0.0
            finish[name] = start + durations.get(name, 0.0)
    last = _latest(list(finish), finish)
    return Timing(
        sequential=sum(durations.get(name, 0.0) for name in needs),
        levels=sum(max(durations.get(name, 0.0) for name in level) for level in of_levels),
        critical=finish[last] if last is not None else 0.0,
        critical_path=_path_to(last, before),
    )


def critical_path(needs: Needs, durations: Mapping[str, float] | None = None) -> tuple[str, ...]:
    """The chain of steps that takes longest; without durations, the one with the most steps."""
    known = durations if durations is not None else dict.fromkeys(needs, 1.0)
    return timing(needs, known).critical_path


def _latest(names: Collection[str], finish: Mapping[str, float]) -> str | None:
    return max((name for name in names if name in finish), key=finish.__getitem__, default=None)


def _path_to(last: str | None, before: Mapping[str, str | None]) -> tuple[str, ...]:
    path = []
    while last is not None:
        path.append(last)
        last = before[last]
    return tuple(reversed(path))
