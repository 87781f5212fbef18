"""JSON Schemas that strangers write, checked and applied without letting them hold a worker.

Draft 2020-12 throughout. References never leave the schema, patterns run in linear time, and all
work on a value is metered: a schema that would repeat itself without measure is refused.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from functools import cached_property, lru_cache
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

import jsonschema_rs
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.exceptions import SchemaError, best_match
from jsonschema.validators import extend
from pydantic import JsonValue
from referencing import Registry
from referencing.exceptions import Unresolvable

from agents_app.core.errors import UnusableSchemaError

# Parts of a schema once its references are followed. Thousands of fields fit.
MAX_PARTS = 10_000
# Schemas applied to values, or as much work of another kind; two seconds or so on one core.
MAX_STEPS = 200_000
# What a compiled pattern may take, in bytes. It bounds the time that matching takes, too.
_MAX_PATTERN_BYTES = 250_000
_MAX_PATTERNS = 64
_SHOWN = 200
_GAP = " ... "
# Larger texts are checked anew each time: a cache of them would be bounded by nothing.
_MAX_REMEMBERED = 4_000
_COMMON: Final = frozenset(
    {"type", "description", "properties", "required", "items", "additionalProperties"}
)
_TYPES: Final = ("object", "array", "string", "integer", "number", "boolean", "null")
# Below these stand values, or schemas under names, where a key is no keyword.
_VALUES: Final = frozenset({"enum", "const", "default", "examples"})
_NAMED: Final = frozenset({"properties", "$defs", "definitions", "dependentSchemas"})
_REFERENCES: Final = frozenset({"$ref", "$dynamicRef"})
_ANCHORS: Final = frozenset({"$id", "$anchor", "$dynamicAnchor"})
# The library matches the patterns of the first on Python's engine, which backtracks while it
# holds every thread, and compares all that it has seen with all that there is for the others.
_REFUSED: Final = frozenset({"patternProperties", "unevaluatedProperties", "unevaluatedItems"})

_Check: TypeAlias = Callable[
    [Draft202012Validator, Any, JsonValue, Mapping[str, Any]], Iterator[ValidationError] | None
]


def schema_fault(schema: Mapping[str, Any]) -> str | None:
    """Why this is no JSON Schema that we can use, or None."""
    try:
        if _is_common(schema):
            return None
        text = json.dumps(schema)
        return _known_fault(text) if len(text) <= _MAX_REMEMBERED else _fault(schema)
    except RecursionError:
        return "nested too deeply"


def misfits(value: JsonValue, schema: Mapping[str, Any]) -> Iterator[ValidationError]:
    """Everything that keeps the value from fitting, found as it is asked for.

    Raises UnusableSchemaError where the schema itself is to blame, also half-way through.
    """
    try:
        # An empty registry of our own: by default the library would fetch remote references.
        validator = _Validator(_tamed(schema), registry=Registry())
        yield from _Meter(schema).metered(validator.iter_errors(value))
    except Unresolvable as error:
        raise UnusableSchemaError(
            "unresolvable_reference", f"cannot resolve {shortened(repr(error.ref))}"
        ) from error
    except RecursionError:
        raise UnusableSchemaError(
            "too_deep", "refers to itself without end, or the value nests too deeply"
        ) from None
    except OverflowError:
        raise UnusableSchemaError("unsupported", "compares numbers that are too large") from None


def pointer_of(error: ValidationError | SchemaError) -> str:
    return "".join(map(_part, error.absolute_path))


def shortened(message: str) -> str:
    # The library quotes the offending value, which can be the whole answer.
    if len(message) <= _SHOWN:
        return message
    half = (_SHOWN - len(_GAP)) // 2
    return f"{message[:half]}{_GAP}{message[-half:]}"


def _part(part: object) -> str:
    return "/" + str(part).replace("~", "~0").replace("/", "~1")


def _is_common(schema: object) -> bool:
    """A schema of the common keywords, rightly used: seen at once, a hundred times as fast."""
    if not isinstance(schema, dict) or not schema.keys() <= _COMMON:
        return False
    properties, required = schema.get("properties", {}), schema.get("required", [])
    if not isinstance(properties, dict) or not isinstance(required, list):
        return False
    return (
        schema.get("type", "object") in _TYPES
        and isinstance(schema.get("description", ""), str)
        and isinstance(schema.get("additionalProperties", True), bool)
        and all(isinstance(name, str) for name in required)
        and len(set(required)) == len(required)
        and ("items" not in schema or _is_common(schema["items"]))
        and all(map(_is_common, properties.values()))
    )


@lru_cache(maxsize=1_024)
def _known_fault(text: str) -> str | None:
    return _fault(json.loads(text))


def _fault(schema: Mapping[str, Any]) -> str | None:
    try:
        _Expansion(schema).parts(schema, at="")
        error = best_match(_against_the_standard(schema))
    except UnusableSchemaError as unusable:
        return str(unusable)
    if error is not None:
        return f"{pointer_of(error) or '/'}: {error.message}"
    return next(_unusable(schema), None)


def _against_the_standard(schema: Mapping[str, Any]) -> Iterator[ValidationError]:
    validator = _Validator(_tamed(Draft202012Validator.META_SCHEMA))
    return _Meter({}).metered(validator.iter_errors(schema))


def _below(schema: object) -> Iterator[tuple[str, object]]:
    """What stands right below and may be or hold schemas, each with its place."""
    if isinstance(schema, list):
        for index, item in enumerate(schema):
            yield _part(index), item
    if not isinstance(schema, dict):
        return
    for keyword, given in schema.items():
        if keyword in _NAMED and isinstance(given, dict):
            for name, child in given.items():
                yield _part(keyword) + _part(name), child
        elif keyword not in _VALUES:
            yield _part(keyword), given


class _Expansion:
    """How large a schema becomes once all its references are followed."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema
        self._counts: dict[int, int] = {}

    def parts(self, schema: object, *, at: str) -> int:
        """Raises UnusableSchemaError with the place, if they are too many there."""
        if not isinstance(schema, list | dict):
            return int(isinstance(schema, bool))
        if id(schema) in self._counts:
            return self._counts[id(schema)]
        # A circle counts once: how often it turns is for the value to say.
        self._counts[id(schema)] = count = 1
        for place, child in _below(schema):
            count += self.parts(child, at=at + place)
        if isinstance(schema, dict):
            count += self._referred(schema)
        if count > MAX_PARTS:
            raise UnusableSchemaError(
                "too_large",
                f"{shortened(at) or '/'}: more than {MAX_PARTS:,} parts once its references are "
                "followed; refer less often to what refers to others",
            )
        self._counts[id(schema)] = count
        return count

    def _referred(self, schema: Mapping[str, Any]) -> int:
        count = 0
        for keyword in _REFERENCES & schema.keys():
            target = self._target(schema[keyword])
            count += self.parts(target, at=str(schema[keyword])[1:])
        return count

    def _target(self, reference: object) -> object:
        if not isinstance(reference, str) or not reference.startswith("#"):
            return None
        if reference[1:] in self._anchored:
            return self._anchored[reference[1:]]
        target: object = self._schema
        for part in unquote(reference).split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            target = _item(target, key)
        return target

    @cached_property
    def _anchored(self) -> dict[str, object]:
        return {
            schema[keyword]: schema
            for schema in _objects(self._schema)
            for keyword in ("$anchor", "$dynamicAnchor")
            if isinstance(schema.get(keyword), str)
        }


def _item(holder: object, key: str) -> object:
    if isinstance(holder, dict):
        return holder.get(key)
    if isinstance(holder, list) and key.isdecimal() and int(key) < len(holder):
        return holder[int(key)]
    return None


def _objects(schema: object) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
    for _, child in _below(schema):
        yield from _objects(child)


def _unusable(schema: object) -> Iterator[str]:
    """What the specification allows and we do not."""
    for each in _objects(schema):
        yield from filter(None, (_refusal(keyword, given) for keyword, given in each.items()))


def _refusal(keyword: str, given: object) -> str | None:
    if keyword in _REFUSED:
        return f"`{keyword}` is not supported; use `additionalProperties` or `items`"
    if not isinstance(given, str):
        return None
    if keyword in _REFERENCES and not given.startswith("#"):
        place = shortened(f"{keyword}: {given}")
        return f"`{place}` leads elsewhere; only references inside the schema are followed"
    if keyword == "pattern" and _compiled(given) is None:
        shown = shortened(given)
        return (
            f"The pattern `{shown}` is not supported; look-around and \\1 are not known, "
            "and long repetitions become too large"
        )
    return None


@lru_cache(maxsize=_MAX_PATTERNS)
def _compiled(pattern: str) -> jsonschema_rs.Draft202012Validator | None:
    """The pattern, in the dialect of the standard, or None if the engine does not take it.

    A validator of strings alone: one for whole schemas could end the process on a hostile one.
    """
    options = jsonschema_rs.RegexOptions(
        size_limit=_MAX_PATTERN_BYTES, dfa_size_limit=_MAX_PATTERN_BYTES
    )
    try:
        return jsonschema_rs.Draft202012Validator({"pattern": pattern}, pattern_options=options)
    except (jsonschema_rs.ValidationError, ValueError):
        return None


class _Meter:
    """Counts the work of one check, and ends it with UnusableSchemaError when it is too much."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema
        self._steps = 0
        # By identity: the schemas that hold them live as long as the check.
        self._options: dict[int, frozenset[str]] = {}
        self._patterns: dict[str, jsonschema_rs.Draft202012Validator | None] = {}

    def metered(self, errors: Iterator[ValidationError]) -> Iterator[ValidationError]:
        while True:
            token = _METER.set(self)
            try:
                error = next(errors, None)
            finally:
                _METER.reset(token)
            if error is None:
                return
            yield error

    def charge(self, steps: int) -> None:
        self._steps += steps
        if self._steps > MAX_STEPS:
            raise UnusableSchemaError(
                "too_costly",
                f"takes more than {MAX_STEPS:,} steps to check; simplify the schema "
                "or let it check a smaller value",
            )

    @cached_property
    def lookup_steps(self) -> int:
        """The library searches the whole schema for a name, each time that it is referred to."""
        objects = list(_objects(self._schema))
        return len(objects) if any(_ANCHORS & each.keys() for each in objects) else 0

    def options(self, given: list[JsonValue]) -> frozenset[str]:
        if id(given) not in self._options:
            self._options[id(given)] = frozenset(map(self.canonical, given))
        return self._options[id(given)]

    def pattern(self, text: str) -> jsonschema_rs.Draft202012Validator | None:
        if text not in self._patterns:
            self.charge(20)
            if len(self._patterns) >= _MAX_PATTERNS:
                self._patterns.clear()
            self._patterns[text] = _compiled(text)
        return self._patterns[text]

    def canonical(self, value: JsonValue) -> str:
        """A text that two values share if JSON Schema calls them equal."""
        text = json.dumps(_normal(value), sort_keys=True)
        self.charge(len(text) // 200)
        return text


_METER: ContextVar[_Meter] = ContextVar("_METER")


def _normal(value: JsonValue) -> JsonValue:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_normal(item) for item in value]
    if isinstance(value, dict):
        return {key: _normal(item) for key, item in value.items()}
    return value


def _metered(keyword: str, check: _Check) -> _Check:
    """The check of a keyword, charged for what it has to look at and to say."""

    def metered(
        validator: Draft202012Validator, given: Any, instance: JsonValue, schema: Mapping[str, Any]
    ) -> Iterator[ValidationError]:
        meter = _METER.get()
        if keyword in _REFERENCES:
            meter.charge(meter.lookup_steps + given.count("/"))
        meter.charge((_width(given) + _width(instance)) // 50)
        for error in check(validator, given, instance, schema) or ():
            meter.charge(1 + len(error.message) // 500)
            # Each branch of an `anyOf` keeps its errors, and each of them quotes the value.
            error.message = shortened(error.message)
            yield error

    return metered


def _width(value: object) -> int:
    return len(value) if isinstance(value, list | dict) else 0


def _pattern(
    validator: Draft202012Validator, pattern: str, instance: JsonValue, schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    if not isinstance(instance, str):
        return
    meter = _METER.get()
    compiled = meter.pattern(pattern)
    if compiled is None:
        raise UnusableSchemaError("unsupported", f"cannot match {shortened(repr(pattern))}")
    meter.charge(len(pattern) // 50 + len(instance) // 500)
    # Half a surrogate pair, which JSON can spell, is no text to the engine.
    if not compiled.is_valid(instance.encode("utf-8", "replace").decode()):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _enum(
    validator: Draft202012Validator,
    options: list[JsonValue],
    instance: JsonValue,
    schema: Mapping[str, Any],
) -> Iterator[ValidationError]:
    meter = _METER.get()
    if meter.canonical(instance) not in meter.options(options):
        yield ValidationError(f"{instance!r} is not one of {options!r}")


def _const(
    validator: Draft202012Validator,
    constant: JsonValue,
    instance: JsonValue,
    schema: Mapping[str, Any],
) -> Iterator[ValidationError]:
    meter = _METER.get()
    if meter.canonical(instance) != meter.canonical(constant):
        yield ValidationError(f"{constant!r} was expected")


def _unique_items(
    validator: Draft202012Validator, is_asked: bool, instance: JsonValue, schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    if not is_asked or not isinstance(instance, list):
        return
    meter = _METER.get()
    meter.charge(len(instance) // 3)
    if len(set(map(meter.canonical, instance))) < len(instance):
        yield ValidationError(f"{instance!r} has non-unique elements")


# The library compares each item with all others.
_OWN: Final[Mapping[str, _Check]] = {
    "pattern": _pattern,
    "enum": _enum,
    "const": _const,
    "uniqueItems": _unique_items,
}
_CHECKS: Final = {
    keyword: _metered(keyword, check)
    for keyword, check in {**Draft202012Validator.VALIDATORS, **_OWN}.items()
}
_Validator = extend(Draft202012Validator, validators=_CHECKS)  # type: ignore[no-untyped-call]
_plainly_evolved = _Validator.evolve
_plainly_descended = _Validator.descend


def _evolved(validator: Draft202012Validator, **changes: Any) -> Draft202012Validator:
    _METER.get().charge(1)
    if "schema" in changes:
        changes["schema"] = _tamed(changes["schema"])
    evolved: Draft202012Validator = _plainly_evolved(validator, **changes)
    return evolved


def _descended(
    validator: Draft202012Validator,
    instance: JsonValue,
    schema: Any,
    path: str | int | None = None,
    **options: Any,
) -> Iterator[ValidationError]:
    if schema is not False:
        yield from _plainly_descended(validator, instance, schema, path=path, **options)
        return
    # The library's own message would quote the value, however large, and never be charged.
    error = ValidationError("nothing may stand here", validator="false", instance=instance)
    if path is not None:
        error.path.appendleft(path)
    yield error


# The library makes such a validator for every schema below the first.
_Validator.evolve = _evolved
_Validator.descend = _descended


def _tamed(schema: Any) -> Any:
    """The schema without what would lead the library around our own checks."""
    if schema is False:
        return {"not": True}
    if not isinstance(schema, Mapping):
        return schema
    if refused := _REFUSED & schema.keys():
        raise UnusableSchemaError("unsupported", f"`{min(refused)}` is not supported")
    if "$schema" in schema:
        # It would choose a validator of the library's own, and with that its patterns.
        return {key: item for key, item in schema.items() if key != "$schema"}
    return schema
