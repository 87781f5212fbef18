"""JSON Schema: does a value fit, and what does it say about a path into the value."""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from jsonschema import ValidationError

from agents_app.core.errors import UnusableSchemaError
from agents_app.core.json_schema import misfits
from orchestrator.core.jsonvalue import Json, copy_json
from orchestrator.core.problems import Problem, pointer

Schema: TypeAlias = Mapping[str, Json]

MAX_PROBLEMS = 100
_MAX_MESSAGE = 300
_MAX_REFERENCES = 16
# Keywords after which the plain reading of `properties` and `items` says too little.
COMBINING: Final = frozenset({"anyOf", "oneOf", "allOf", "not", "if", "$dynamicRef"})


def value_problems(value: Json, schema: Schema, *, at: str = "/input") -> list[Problem]:
    """Everything that keeps `value` from fitting the schema, up to 100 problems."""
    problems: list[Problem] = []
    try:
        for error in misfits(value, schema):
            problems += _problems_of(error, at=at)
            if len(problems) >= MAX_PROBLEMS:
                break
    except UnusableSchemaError as error:
        problems.append(Problem(at, error.reason, f"The schema cannot be applied: {error}"))
    return problems[:MAX_PROBLEMS]


def _problems_of(error: ValidationError, *, at: str) -> Iterator[Problem]:
    place = at + pointer(*error.absolute_path)
    keyword = str(error.validator)
    if keyword == "required":
        name = _missing(error)
        yield Problem(place + pointer(name), "required", f"{name} is required")
    else:
        yield Problem(place, keyword, _short(error.message))


def _missing(error: ValidationError) -> str:
    # Only the message tells which one it is; it quotes as Python does, and cuts what is long.
    quoted = error.message.removesuffix(" is a required property")
    try:
        return str(literal_eval(quoted))
    except (ValueError, SyntaxError):
        return quoted


def with_defaults(value: Json, schema: Schema) -> Json:
    """A copy of `value` with the schema's defaults for the properties that it leaves out."""
    copied = copy_json(value)
    _fill(copied, schema)
    return copied


def _fill(value: Json, schema: Json | Schema) -> None:
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    if not isinstance(value, dict) or not isinstance(properties, dict):
        return
    for name, of_property in properties.items():
        if isinstance(of_property, dict) and "default" in of_property:
            value.setdefault(name, copy_json(of_property["default"]))
        _fill(value.get(name), of_property)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a schema says about a path. `schema` is None where it says nothing."""

    schema: Schema | None = None
    may_be_missing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Nowhere:
    """The schema rules the path out: `part` is not among what `parent` offers."""

    parent: str
    part: str
    offers: str


def follow(
    schema: Schema | None, parts: Sequence[str], *, root: str, has_defaults: bool = False
) -> Place | Nowhere:
    """The place of a path in the values that the schema describes.

    `has_defaults` tells that the values went through `with_defaults`.
    """
    node, may_be_missing, parent = schema, False, root
    for part in parts:
        node = dereferenced(node, root=schema)
        if node is None or not node.keys().isdisjoint(COMBINING):
            return Place()
        types = types_of(node)
        if types is not None and "null" in types:
            may_be_missing = True
        child = _child(node, part, types=types, has_defaults=has_defaults)
        if isinstance(child, str):
            return Nowhere(parent=parent, part=part, offers=child)
        if child.schema is None:
            return child
        node, parent = child.schema, f"{parent}.{part}"
        may_be_missing = may_be_missing or child.may_be_missing
    return Place(schema=dereferenced(node, root=schema), may_be_missing=may_be_missing)


def dereferenced(node: Schema | None, *, root: Schema | None) -> Schema | None:
    """What the node refers to inside the schema; None where that leads nowhere."""
    for _ in range(_MAX_REFERENCES):
        reference = node.get("$ref") if node is not None else None
        if not isinstance(reference, str):
            return node
        target: Json | Schema = root
        for part in reference.removeprefix("#").split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            target = target.get(key) if isinstance(target, Mapping) else None
        node = target if isinstance(target, Mapping) else None
    return None


def _child(
    node: Schema, part: str, *, types: frozenset[str] | None, has_defaults: bool
) -> Place | str:
    if types is None and "properties" not in node and "items" not in node:
        return Place()
    if "properties" in node or (types and "object" in types):
        return _property(node, part, has_defaults=has_defaults)
    if "items" in node or (types and "array" in types):
        items = None if "prefixItems" in node else node.get("items")
        if not part.isdecimal():
            return "a list: places such as .0"
        # Whether a list is that long is not for the schema to say.
        return Place(schema=items if isinstance(items, dict) else None)
    return f"only a value ({' or '.join(sorted(types or ()))})"


def _property(node: Schema, part: str, *, has_defaults: bool) -> Place | str:
    properties, required = node.get("properties"), node.get("required")
    known = properties if isinstance(properties, dict) else {}
    if part in known:
        of_part = known[part]
        schema = of_part if isinstance(of_part, dict) else {}
        is_required = isinstance(required, list) and part in required
        is_filled = has_defaults and "default" in schema
        return Place(schema=schema, may_be_missing=not is_required and not is_filled)
    extra = node.get("additionalProperties", not known)
    if extra is False or (not extra and not isinstance(extra, dict)):
        return ", ".join(sorted(known)) or "nothing"
    return Place(schema=extra if isinstance(extra, dict) else None)


def types_of(schema: Schema | None) -> frozenset[str] | None:
    """The JSON types that the schema allows, or None where it does not say."""
    if schema is None:
        return None
    declared = schema.get("type")
    if isinstance(declared, str):
        return frozenset({declared})
    if isinstance(declared, list):
        return frozenset(str(name) for name in declared)
    if "const" in schema:
        return frozenset({type_name(schema["const"])})
    options = schema.get("enum")
    if isinstance(options, list):
        return frozenset(type_name(option) for option in options)
    return None


def type_name(value: Json) -> str:
    names: Mapping[type, str] = {
        bool: "boolean",
        int: "integer",
        float: "number",
        str: "string",
        dict: "object",
        list: "array",
    }
    return names.get(type(value), "null")


def may_fit(source: Schema | None, target: Schema | None) -> bool:
    """Whether some value of `source` can be a value of `target`, by type alone."""
    have, want = types_of(source), types_of(target)
    if have is None or want is None:
        return True
    # A number may turn out to be whole.
    numbers = {"integer", "number"}
    return bool(have & want) or bool(have & numbers and want & numbers)


def _short(message: str) -> str:
    return message if len(message) <= _MAX_MESSAGE else message[:_MAX_MESSAGE] + "..."
