"""JSON Schemas that strangers write, checked and applied without letting them hold a worker.

Draft 2020-12 throughout. Patterns run on an engine that takes linear time, where Python's
backtracks while it holds every thread of the process; references never leave the schema.
"""

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

import cel
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.exceptions import SchemaError, best_match
from jsonschema.validators import extend
from pydantic import JsonValue
from referencing import Registry
from referencing.exceptions import Unresolvable

from agents_app.core.errors import UnusableSchemaError

_SHOWN = 200
# Larger texts are checked anew each time: a cache of them would be bounded by nothing.
_MAX_REMEMBERED = 4_000
_COMMON: Final = frozenset(
    {"type", "description", "properties", "required", "items", "additionalProperties"}
)
_TYPES: Final = ("object", "array", "string", "integer", "number", "boolean", "null")
# Below these stand values, or schemas under names, where a key is no keyword.
_VALUES: Final = frozenset({"enum", "const", "default", "examples"})
_NAMED: Final = frozenset({"properties", "$defs", "definitions", "dependentSchemas"})

_MATCHES = cel.compile("text.matches(pattern)")


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

    Raises UnusableSchemaError where the schema itself is to blame.
    """
    try:
        # An empty registry of our own: by default the library would fetch remote references.
        yield from _Validator(_tamed(schema), registry=Registry()).iter_errors(value)
    except Unresolvable as error:
        raise UnusableSchemaError(
            "unresolvable_reference", f"cannot resolve {shortened(repr(error.ref))}"
        ) from error
    except RecursionError:
        raise UnusableSchemaError("too_deep", "refers to itself without end") from None


def pointer_of(error: ValidationError | SchemaError) -> str:
    parts = (str(part).replace("~", "~0").replace("/", "~1") for part in error.absolute_path)
    return "".join(f"/{part}" for part in parts)


def shortened(message: str) -> str:
    # The library quotes the offending value, which can be the whole answer.
    if len(message) <= _SHOWN:
        return message
    half = _SHOWN // 2
    return f"{message[:half]} ... {message[-half:]}"


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
    error = best_match(Draft202012Validator(Draft202012Validator.META_SCHEMA).iter_errors(schema))
    if error is not None:
        return f"{pointer_of(error) or '/'}: {shortened(error.message)}"
    return next(_unusable(schema), None)


def _unusable(schema: object) -> Iterator[str]:
    """What the specification allows and we do not."""
    if isinstance(schema, list):
        for item in schema:
            yield from _unusable(item)
    if not isinstance(schema, dict):
        return
    for keyword, given in schema.items():
        if problem := _refusal(keyword, given):
            yield problem
        if keyword in _NAMED and isinstance(given, dict):
            yield from _unusable(list(given.values()))
        elif keyword not in _VALUES:
            yield from _unusable(given)


def _refusal(keyword: str, given: object) -> str | None:
    if keyword == "patternProperties":
        return "`patternProperties` is not supported; use `additionalProperties`"
    if not isinstance(given, str):
        return None
    if keyword in ("$ref", "$dynamicRef") and not given.startswith("#"):
        place = shortened(f"{keyword}: {given}")
        return f"`{place}` leads elsewhere; only references inside the schema are followed"
    if keyword == "pattern" and _matches("", given) is None:
        shown = shortened(given)
        return f"The pattern `{shown}` is not supported; look-around and \\1 are not known"
    return None


def _matches(text: str, pattern: str) -> bool | None:
    """Whether the pattern occurs in the text; None if it is none that the engine takes."""
    try:
        return bool(_MATCHES.execute({"text": text, "pattern": pattern}))
    except (ValueError, RuntimeError, TypeError):
        return None


def _pattern(
    validator: Draft202012Validator, pattern: str, instance: JsonValue, schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    if not isinstance(instance, str):
        return
    found = _matches(instance, pattern)
    if found is None:
        raise UnusableSchemaError("unsupported", f"cannot match {shortened(repr(pattern))}")
    if not found:
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


_Validator = extend(Draft202012Validator, validators={"pattern": _pattern})  # type: ignore[no-untyped-call]
_plainly_evolved = _Validator.evolve


def _evolved(validator: Draft202012Validator, **changes: Any) -> Draft202012Validator:
    if "schema" in changes:
        changes["schema"] = _tamed(changes["schema"])
    evolved: Draft202012Validator = _plainly_evolved(validator, **changes)
    return evolved


# The library makes such a validator for every schema below the first.
_Validator.evolve = _evolved


def _tamed(schema: Any) -> Any:
    """The schema without what would lead the library back to Python's patterns."""
    if not isinstance(schema, Mapping):
        return schema
    if "patternProperties" in schema:
        raise UnusableSchemaError("unsupported", "`patternProperties` is not supported")
    if "$schema" in schema:
        # It would choose a validator of the library's own, and with that its patterns.
        return {key: item for key, item in schema.items() if key != "$schema"}
    return schema
