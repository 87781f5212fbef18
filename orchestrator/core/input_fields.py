"""The fields of a form, and which values each can hold and give back the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from enum import StrEnum
from typing import Final, TypeAlias

from orchestrator.core.jsonvalue import Json

Path: TypeAlias = tuple[str, ...]


class Kind(StrEnum):
    TEXT = "text"
    LONG_TEXT = "long_text"
    DATE = "date"
    TIME = "time"
    DATE_TIME = "date_time"  # UTC, to the second
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    CHOICE = "choice"  # one of `options`
    CHOICES = "choices"  # several of `options`
    LINES = "lines"  # texts, one per line
    JSON = "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """`default` and `example` are None where the schema has none."""

    path: Path
    kind: Kind
    label: str
    help: str
    is_required: bool
    default: Json
    example: Json
    options: tuple[Json, ...] = ()


def can_show(field: Field, value: Json) -> bool:
    if field.kind == Kind.CHOICE:
        return _in_order([value], field.options)
    if field.kind == Kind.CHOICES:
        return isinstance(value, list) and bool(value) and _in_order(value, field.options)
    return _CAN_SHOW[field.kind](value)


def utc_text(moment: datetime) -> str:
    """As a field gives it: in UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def time_text(moment: time) -> str:
    return moment.strftime("%H:%M:%S")


def _in_order(chosen: Sequence[Json], options: Sequence[Json]) -> bool:
    # Written out, since Python takes 1 and true for the same.
    written = [json.dumps(option) for option in options]
    places = [written.index(text) if text in written else -1 for text in map(json.dumps, chosen)]
    return -1 not in places and places == sorted(set(places))


def _is_text(value: Json) -> bool:
    # Empty is what was not filled in; a browser sends every line's end as CR LF.
    return isinstance(value, str) and value != "" and "\r" not in value


def _is_line(value: Json) -> bool:
    return isinstance(value, str) and value != "" and value.isprintable()


def _are_lines(value: Json) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_line, value))


def _is_integer(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_boolean(value: Json) -> bool:
    return isinstance(value, bool)


def _is_something(value: Json) -> bool:
    return value is not None


def _reads_back(read: Callable[[str], str]) -> Callable[[Json], bool]:
    def same(value: Json) -> bool:
        try:
            return isinstance(value, str) and read(value) == value
        except (ValueError, OverflowError):
            return False

    return same


_CAN_SHOW: Final[Mapping[Kind, Callable[[Json], bool]]] = {
    Kind.TEXT: _is_line,
    Kind.LONG_TEXT: _is_text,
    Kind.DATE: _reads_back(lambda text: date.fromisoformat(text).isoformat()),
    Kind.TIME: _reads_back(lambda text: time_text(time.fromisoformat(text))),
    Kind.DATE_TIME: _reads_back(lambda text: utc_text(datetime.fromisoformat(text))),
    Kind.INTEGER: _is_integer,
    Kind.NUMBER: _is_number,
    Kind.BOOLEAN: _is_boolean,
    Kind.LINES: _are_lines,
    Kind.JSON: _is_something,
}
