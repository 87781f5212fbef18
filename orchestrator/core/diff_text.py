"""A unified diff of two specs' YAML, step against step of the same name.

Comparing whole files line by line could take minutes on what a stranger wrote; steps are
small, and those that did not change are passed over.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from itertools import islice
from typing import Final

from orchestrator.core.diff import Spec, in_same_order, steps_of
from orchestrator.core.jsonvalue import Json
from orchestrator.core.yaml_io import dump_text

MAX_LINES: Final = 5_000
_CONTEXT: Final = 3
# Pairs of lines that may be compared; past them what changed is shown as replaced.
_MAX_WORK: Final = 4_000_000


def diff_text(before: Spec, after: Spec, *, before_name: str, after_name: str) -> str:
    """Empty if nothing differs. Of a very long diff the first 5,000 lines."""
    found = _Writer().lines(before, after)
    lines = list(islice(found, MAX_LINES))
    if not lines:
        return ""
    if next(found, None) is not None:
        lines.append(f"# More than {MAX_LINES:,} lines; the rest is not shown.\n")
    return "".join([f"--- {before_name}\n", f"+++ {after_name}\n", *lines])


@dataclass(slots=True)
class _Writer:
    """Where in both files it stands, and how much comparing is left."""

    old_line: int = 1
    new_line: int = 1
    work: int = field(default=_MAX_WORK)

    def lines(self, before: Spec, after: Spec) -> Iterator[str]:
        yield from self._block("", _header(before), _header(after))
        old, new = steps_of(before), steps_of(after)
        for gone, name, come in _aligned(old, new):
            for step in gone:
                yield from self._block(step, _step(step, old), [])
            for step in come:
                yield from self._block(step, [], _step(step, new))
            if name is not None:
                yield from self._step_in_both(name, old, new)

    def _step_in_both(
        self, name: str, old: Mapping[str, Json], new: Mapping[str, Json]
    ) -> Iterator[str]:
        before = _step(name, old)
        # Writing YAML is what takes time.
        is_same = json.dumps(old[name]) == json.dumps(new[name])
        yield from self._block(name, before, before if is_same else _step(name, new))

    def _block(self, name: str, old: list[str], new: list[str]) -> Iterator[str]:
        if old is not new and old != new:
            for group in self._groups(old, new):
                yield from self._hunk(name, group, old, new)
        self.old_line += len(old)
        self.new_line += len(new)

    def _groups(self, old: list[str], new: list[str]) -> Iterable[list[_Opcode]]:
        work = len(old) * len(new)
        if not work or work > self.work:
            return [[("replace", 0, len(old), 0, len(new))]]
        self.work -= work
        return SequenceMatcher(None, old, new).get_grouped_opcodes(_CONTEXT)

    def _hunk(
        self, name: str, group: list[_Opcode], old: list[str], new: list[str]
    ) -> Iterator[str]:
        first, last = group[0], group[-1]
        olds = _range(self.old_line + first[1], last[2] - first[1])
        news = _range(self.new_line + first[3], last[4] - first[3])
        yield f"@@ -{olds} +{news} @@ {name}".rstrip() + "\n"
        for tag, old_from, old_to, new_from, new_to in group:
            if tag == "equal":
                yield from (f" {line}" for line in old[old_from:old_to])
                continue
            yield from (f"-{line}" for line in old[old_from:old_to])
            yield from (f"+{line}" for line in new[new_from:new_to])


_Opcode = tuple[str, int, int, int, int]


def _aligned(
    old: Mapping[str, Json], new: Mapping[str, Json]
) -> Iterator[tuple[list[str], str | None, list[str]]]:
    """Steps in both in the same order, each with what is gone and what came in before it."""
    left, right = iter(old), iter(new)
    for name in (*in_same_order(list(old), list(new)), None):
        gone = list(iter(lambda: next(left, None), name))
        come = list(iter(lambda: next(right, None), name))
        yield [step for step in gone if step], name, [step for step in come if step]


def _header(spec: Spec) -> list[str]:
    rest = {key: value for key, value in spec.items() if key != "steps"}
    return [*dump_text(rest).splitlines(keepends=True), "steps:\n"]


def _step(name: str, steps: Mapping[str, Json]) -> list[str]:
    # Below its key, so that long lines break where they do in the whole file.
    return dump_text({"steps": {name: steps[name]}}).splitlines(keepends=True)[1:]


def _range(start: int, length: int) -> str:
    # An empty range names the line before it.
    if length == 0:
        return f"{start - 1},0"
    return str(start) if length == 1 else f"{start},{length}"
