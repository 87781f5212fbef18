"""Plain JSON values: their type, and the walls around what comes in from outside."""

from __future__ import annotations

import math
from typing import TypeAlias

from orchestrator.core.problems import Problem

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

MAX_DEPTH = 64
MAX_KEY = 1_000


def copy_json(value: Json) -> Json:
    """A deep copy of a value that `foreign_problem` has let through."""
    if isinstance(value, dict):
        return {key: copy_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [copy_json(item) for item in value]
    return value


def foreign_problem(value: object) -> Problem | None:
    """What keeps `value` from being plain JSON that every database and reader can hold.

    Goes down level by level, so that no depth of nesting can exhaust the stack.
    """
    layer: list[object] = [value]
    for _ in range(MAX_DEPTH):
        below: list[object] = []
        for item in layer:
            if isinstance(item, dict):
                below += item
                below += item.values()
                if not all(isinstance(key, str) and len(key) <= MAX_KEY for key in item):
                    message = f"Every key must be text of at most {MAX_KEY:,} characters"
                    return Problem("", "not_json", message)
            elif isinstance(item, list):
                below += item
            elif not _is_plain(item):
                return Problem("", "not_json", f"{_shown(item)} cannot be stored as JSON")
        if not below:
            return None
        layer = below
    return Problem("", "too_deep", f"Nested deeper than {MAX_DEPTH} levels; flatten it")


def is_too_deep(value: Json) -> bool:
    layer: list[dict[str, Json] | list[Json]] = [value] if isinstance(value, (dict, list)) else []
    for _ in range(MAX_DEPTH):
        children = (item.values() if isinstance(item, dict) else item for item in layer)
        layer = [child for of in children for child in of if isinstance(child, (dict, list))]
    return bool(layer)


def _is_plain(item: object) -> bool:
    if isinstance(item, str):
        return (item.isascii() and "\0" not in item) or _is_storable(item)
    if isinstance(item, float):
        return math.isfinite(item)
    return item is None or isinstance(item, int)


def _is_storable(text: str) -> bool:
    """PostgreSQL takes neither a zero character nor half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _shown(item: object) -> str:
    return repr(item) if isinstance(item, (float, str)) else f"A {type(item).__name__}"
