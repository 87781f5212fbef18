"""Which fields a form needs to ask for the input that a JSON Schema describes.

Whatever has no field of its own kind is asked for as JSON, so that no schema is too odd. The
schema itself judges what was filled in.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from orchestrator.core.input_fields import Field, Kind, Path, can_show
from orchestrator.core.jsonvalue import Json
from orchestrator.core.schema import COMBINING, Schema, dereferenced, types_of

Values: TypeAlias = Mapping[Path, Json]  # by field; what was left empty is not in it

MAX_FIELDS: Final = 100
MAX_OPTIONS: Final = 200
MAX_DEPTH: Final = 3
_SHORT: Final = 200
# Formats that people write in one line.
_ONE_LINE: Final = frozenset({"email", "uri", "url", "uuid", "hostname", "ipv4", "ipv6"})


_FORMATS: Final = {"date": Kind.DATE, "time": Kind.TIME, "date-time": Kind.DATE_TIME}


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """An object: its properties under one heading. One that is not required may stay empty."""

    path: Path
    label: str
    help: str
    is_required: bool
    members: tuple[Field | Group, ...]


def form_of(schema: Schema) -> Group | None:
    """The form for a run's input, or None where only JSON will do."""
    root = _merged(schema, root=schema)
    if root is None or not _has_properties(root) or not _may_be_object(root):
        return None
    try:
        return _Maker(schema).group(root, path=(), label="", is_required=True)
    except _TooManyFieldsError:
        return None


def fields_of(group: Group) -> Iterator[Field]:
    for member in group.members:
        if isinstance(member, Group):
            yield from fields_of(member)
        else:
            yield member


def defaults_of(group: Group) -> dict[Path, Json]:
    return {field.path: field.default for field in fields_of(group) if field.default is not None}


def assembled(group: Group, values: Values) -> dict[str, Json]:
    """The input that was filled in. What is not required and was left empty is left out."""
    found: dict[str, Json] = {}
    for member in group.members:
        name = member.path[-1]
        if isinstance(member, Group):
            inner = assembled(member, values)
            if inner or member.is_required:
                found[name] = inner
        elif member.path in values:
            found[name] = values[member.path]
    return found


def values_in(group: Group, value: Json) -> dict[Path, Json] | None:
    """What each field must hold to give this input, or None if the form cannot give it."""
    values: dict[Path, Json] = {}
    for field in fields_of(group):
        for held in _at(value, field.path):
            if not can_show(field, held):
                return None
            values[field.path] = held
    return values if _is_same(assembled(group, values), value) else None


def nearest(group: Group, path: Sequence[str]) -> Field | None:
    """The field in which a place of the input lies."""
    found = (field for field in fields_of(group) if field.path == tuple(path[: len(field.path)]))
    return next(found, None)


class _TooManyFieldsError(Exception):
    pass


@dataclass(slots=True)
class _Maker:
    """Counts as it goes: a few properties that refer to the whole could make millions."""

    root: Schema
    left: int = MAX_FIELDS

    def group(self, schema: Schema, *, path: Path, label: str, is_required: bool) -> Group:
        properties, required = schema["properties"], schema.get("required")
        names = required if isinstance(required, list) else []
        nodes = properties.items() if isinstance(properties, dict) else ()
        members = (
            self._member(node, path=(*path, name), is_required=name in names)
            for name, node in nodes
        )
        return Group(
            path=path,
            label=label,
            help=_text(schema, "description"),
            is_required=is_required,
            members=tuple(members),
        )

    def _member(self, node: Json, *, path: Path, is_required: bool) -> Field | Group:
        schema = _merged(node, root=self.root) or {}
        label = _text(schema, "title") or path[-1]
        if _is_group(schema) and len(path) <= MAX_DEPTH:
            return self.group(schema, path=path, label=label, is_required=is_required)
        self.left -= 1
        if self.left < 0:
            raise _TooManyFieldsError
        kind, options = _kind(schema, root=self.root)
        default = schema.get("const", schema.get("default"))
        if default in ("", []):
            default = None  # what is left empty becomes that anyway
        field = Field(
            path=path,
            kind=kind,
            label=label,
            help=_text(schema, "description"),
            is_required=is_required,
            default=default,
            example=_first(schema.get("examples")),
            options=options,
        )
        if default is None or can_show(field, default):
            return field
        return replace(field, kind=Kind.JSON, options=())


def _kind(schema: Schema, *, root: Schema) -> tuple[Kind, tuple[Json, ...]]:
    options = _options(schema)
    if options:
        return Kind.CHOICE, options
    if not schema.keys().isdisjoint(COMBINING):
        return Kind.JSON, ()
    types = (types_of(schema) or frozenset()) - {"null"}
    if types == frozenset({"string"}):
        return _text_kind(schema), ()
    if types == frozenset({"array"}):
        return _list_kind(schema, root=root)
    plain = {"integer": Kind.INTEGER, "number": Kind.NUMBER, "boolean": Kind.BOOLEAN}
    return plain.get(next(iter(types)), Kind.JSON) if len(types) == 1 else Kind.JSON, ()


def _text_kind(schema: Schema) -> Kind:
    format_, longest = _text(schema, "format"), schema.get("maxLength")
    if format_ in _FORMATS:
        return _FORMATS[format_]
    is_short = isinstance(longest, int) and longest <= _SHORT
    return Kind.TEXT if is_short or format_ in _ONE_LINE else Kind.LONG_TEXT


def _list_kind(schema: Schema, *, root: Schema) -> tuple[Kind, tuple[Json, ...]]:
    items = _merged(schema.get("items"), root=root)
    if items is None or "prefixItems" in schema or not items.keys().isdisjoint(COMBINING):
        return Kind.JSON, ()
    if options := _options(items):
        return Kind.CHOICES, options
    return (Kind.LINES if types_of(items) == frozenset({"string"}) else Kind.JSON), ()


def _options(schema: Schema) -> tuple[Json, ...]:
    listed = [schema["const"]] if "const" in schema else schema.get("enum")
    if not isinstance(listed, list) or len(listed) > MAX_OPTIONS:
        return ()
    return (
        () if any(isinstance(one, dict | list) or one is None for one in listed) else tuple(listed)
    )


def _is_group(schema: Schema) -> bool:
    return (
        _has_properties(schema)
        and _may_be_object(schema)
        and "default" not in schema
        and "const" not in schema
        and schema.keys().isdisjoint(COMBINING)
    )


def _may_be_object(schema: Schema) -> bool:
    types = types_of(schema)
    return types is None or set(types) == {"object"}


def _has_properties(schema: Schema) -> bool:
    properties = schema.get("properties")
    return isinstance(properties, dict) and bool(properties)


def _merged(node: Json | Schema, *, root: Schema) -> Schema | None:
    """A schema with what it refers to; what stands beside the reference goes first."""
    if not isinstance(node, Mapping):
        return None
    target = dereferenced(node, root=root)
    if target is None or target is node:
        return target
    return {**target, **{key: value for key, value in node.items() if key != "$ref"}}


def _text(schema: Schema, name: str) -> str:
    value = schema.get(name)
    return value if isinstance(value, str) else ""


def _first(values: Json) -> Json:
    return values[0] if isinstance(values, list) and values else None


def _at(value: Json, path: Path) -> list[Json]:
    """What stands at the path, if anything does."""
    for name in path:
        if not isinstance(value, dict) or name not in value:
            return []
        value = value[name]
    return [value]


def _is_same(one: Json, other: Json) -> bool:
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
