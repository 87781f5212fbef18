"""JSON Schemas that strangers write, checked and applied without letting them hold a worker.

Draft 2020-12 throughout. References never leave the schema, patterns run in linear time, and all
work on a value is metered: a schema that would repeat itself without measure is refused.
"""

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.exceptions import SchemaError, UnknownType, best_match
from pydantic import JsonValue
from referencing import Registry
from referencing.exceptions import Unresolvable

from agents_app.core.errors import UnusableSchemaError
from agents_app.core.schema_parts import objects_in, part_of, shortened
from agents_app.core.schema_references import Expansion, dead_ends
from agents_app.core.schema_validator import (
    REFERENCES,
    REFUSED,
    Meter,
    Validator,
    compiled,
    tamed,
)

# Larger texts are checked anew each time: a cache of them would be bounded by nothing.
_MAX_REMEMBERED = 4_000
_COMMON: Final = frozenset(
    {"type", "description", "properties", "required", "items", "additionalProperties"}
)
_TYPES: Final = ("object", "array", "string", "integer", "number", "boolean", "null")


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
        validator = Validator(tamed(schema), registry=Registry())
        yield from Meter(schema).metered(validator.iter_errors(value))
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
    except (AttributeError, TypeError, ValueError, UnknownType) as error:
        # A reference may lead to what is no schema, and the library stumbles in many ways.
        raise UnusableSchemaError(
            "unsupported", "refers to what is no schema, or has an `$id` that is no address"
        ) from error


def pointer_of(error: ValidationError | SchemaError) -> str:
    return "".join(map(part_of, error.absolute_path))


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
        Expansion(schema).parts(schema, at="")
        error = best_match(_against_the_standard(schema))
    except UnusableSchemaError as unusable:
        return str(unusable)
    if error is not None:
        return f"{pointer_of(error) or '/'}: {error.message}"
    return next(_unusable(schema), None) or next(dead_ends(schema), None)


def _against_the_standard(schema: Mapping[str, Any]) -> Iterator[ValidationError]:
    validator = Validator(tamed(Draft202012Validator.META_SCHEMA))
    return Meter({}).metered(validator.iter_errors(schema))


def _unusable(schema: object) -> Iterator[str]:
    """What the specification allows and we do not."""
    for each in objects_in(schema):
        yield from filter(None, (_refusal(keyword, given) for keyword, given in each.items()))


def _refusal(keyword: str, given: object) -> str | None:
    if keyword in REFUSED:
        return f"`{keyword}` is not supported; use `additionalProperties` or `items`"
    if not isinstance(given, str):
        return None
    if keyword in REFERENCES and not given.startswith("#"):
        place = shortened(f"{keyword}: {given}")
        return f"`{place}` leads elsewhere; only references inside the schema are followed"
    if keyword == "pattern" and compiled(given) is None:
        shown = shortened(given)
        return (
            f"The pattern `{shown}` is not supported; look-around and \\1 are not known, "
            "and long repetitions become too large"
        )
    return None
