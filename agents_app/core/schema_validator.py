"""Applies a JSON Schema to a value, with all work metered and patterns in linear time."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from functools import cached_property, lru_cache
from typing import Any, Final, TypeAlias

import jsonschema_rs
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend
from pydantic import JsonValue

from agents_app.core.errors import UnusableSchemaError
from agents_app.core.schema_parts import objects_in, shortened

# Schemas applied to values, or as much work of another kind; two seconds or so on one core.
MAX_STEPS = 200_000
# What a compiled pattern may take, in bytes. It bounds the time that matching takes, too.
_MAX_PATTERN_BYTES = 250_000
_MAX_PATTERNS = 64
REFERENCES: Final = frozenset({"$ref", "$dynamicRef"})
_ANCHORS: Final = frozenset({"$id", "$anchor", "$dynamicAnchor"})
# The library matches the patterns of the first on Python's engine, which backtracks while it
# holds every thread, and compares all that it has seen with all that there is for the others.
REFUSED: Final = frozenset({"patternProperties", "unevaluatedProperties", "unevaluatedItems"})

_Check: TypeAlias = Callable[
    [Draft202012Validator, Any, JsonValue, Mapping[str, Any]], Iterator[ValidationError] | None
]


@lru_cache(maxsize=_MAX_PATTERNS)
def compiled(pattern: str) -> jsonschema_rs.Draft202012Validator | None:
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


class Meter:
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
        objects = list(objects_in(self._schema))
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
            self._patterns[text] = compiled(text)
        return self._patterns[text]

    def canonical(self, value: JsonValue) -> str:
        """A text that two values share if JSON Schema calls them equal."""
        text = json.dumps(_normal(value), sort_keys=True)
        self.charge(len(text) // 200)
        return text


_METER: ContextVar[Meter] = ContextVar("_METER")


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
        if keyword in REFERENCES:
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
Validator = extend(Draft202012Validator, validators=_CHECKS)  # type: ignore[no-untyped-call]
_plainly_evolved = Validator.evolve
_plainly_descended = Validator.descend


def _evolved(validator: Draft202012Validator, **changes: Any) -> Draft202012Validator:
    _METER.get().charge(1)
    if "schema" in changes:
        changes["schema"] = tamed(changes["schema"])
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
Validator.evolve = _evolved
Validator.descend = _descended


def tamed(schema: Any) -> Any:
    """The schema without what would lead the library around our own checks."""
    if schema is False:
        return {"not": True}
    if not isinstance(schema, Mapping):
        return schema
    if refused := REFUSED & schema.keys():
        raise UnusableSchemaError("unsupported", f"`{min(refused)}` is not supported")
    if "$schema" in schema:
        # It would choose a validator of the library's own, and with that its patterns.
        return {key: item for key, item in schema.items() if key != "$schema"}
    return schema
