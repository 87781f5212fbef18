"""What changed between two specs: field by field, and as a diff of their YAML.

Specs are mappings as authors write them, steps by name. A step that got another name is one
that is gone and one that is new: nothing is guessed.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from orchestrator.core.jsonvalue import Json
from orchestrator.core.problems import pointer

Spec: TypeAlias = Mapping[str, Json]


class Kind(StrEnum):
    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Change:
    """`loc` is a JSON pointer into the spec; None stands on the side that has no such field."""

    loc: str
    change: Kind
    before: Json
    after: Json


@dataclass(frozen=True, slots=True)
class StepChange:
    name: str
    change: Kind
    fields: tuple[Change, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecDiff:
    """`moved` are steps on both sides whose place among these has changed."""

    workflow: tuple[Change, ...]
    steps: tuple[StepChange, ...]
    moved: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        return not (self.workflow or self.steps or self.moved)


def diff(before: Spec, after: Spec) -> SpecDiff:
    old, new = steps_of(before), steps_of(after)
    both = [name for name in new if name in old]
    kept = set(in_same_order(list(old), both))
    return SpecDiff(
        workflow=tuple(_between(_header(before), _header(after), ())),
        steps=tuple(_steps(old, new)),
        moved=tuple(name for name in both if name not in kept),
    )


def steps_of(spec: Spec) -> dict[str, Json]:
    steps = spec.get("steps")
    return dict(steps) if isinstance(steps, dict) else {}


def in_same_order(old: Sequence[str], new: Sequence[str]) -> list[str]:
    """The longest list of names that stand in both in the same order; names are unique."""
    place = {name: at for at, name in enumerate(old)}
    # The smallest last place of an ordered list of each length, and each list as a chain.
    last: list[int] = []
    ends: list[tuple[str, object] | None] = []
    for name in new:
        if name not in place:
            continue
        at = bisect_left(last, place[name])
        chain = (name, ends[at - 1] if at else None)
        if at == len(last):
            last.append(place[name])
            ends.append(chain)
        else:
            last[at], ends[at] = place[name], chain
    return _unchained(ends[-1] if ends else None)


def _unchained(chain: object) -> list[str]:
    names: list[str] = []
    while isinstance(chain, tuple):
        name, chain = chain
        names.append(name)
    return names[::-1]


def _steps(old: Mapping[str, Json], new: Mapping[str, Json]) -> Iterator[StepChange]:
    for name, body in old.items():
        if name not in new:
            yield StepChange(name, Kind.REMOVED, tuple(_fields(name, body, {})))
    for name, body in new.items():
        if name not in old:
            yield StepChange(name, Kind.ADDED, tuple(_fields(name, {}, body)))
        elif fields := tuple(_fields(name, old[name], body)):
            yield StepChange(name, Kind.CHANGED, fields)


def _fields(name: str, before: Json, after: Json) -> Iterator[Change]:
    at = ("steps", name)
    if isinstance(before, dict) and isinstance(after, dict):
        return _between(before, after, at)
    return _of_value(before, after, at)


def _between(before: Spec, after: Spec, at: tuple[str, ...]) -> Iterator[Change]:
    for key in (*before, *(key for key in after if key not in before)):
        place = (*at, key)
        if key not in after:
            yield Change(pointer(*place), Kind.REMOVED, before[key], None)
        elif key not in before:
            yield Change(pointer(*place), Kind.ADDED, None, after[key])
        else:
            yield from _of_value(before[key], after[key], place)


def _of_value(before: Json, after: Json, at: tuple[str, ...]) -> Iterator[Change]:
    if isinstance(before, dict) and isinstance(after, dict):
        yield from _between(before, after, at)
    elif not _same(before, after):
        yield Change(pointer(*at), Kind.CHANGED, before, after)


def _same(before: Json, after: Json) -> bool:
    # Python takes 1 and true for the same.
    return before == after and json.dumps(before, sort_keys=True) == json.dumps(
        after, sort_keys=True
    )


def _header(spec: Spec) -> dict[str, Json]:
    return {key: value for key, value in spec.items() if key != "steps"}
