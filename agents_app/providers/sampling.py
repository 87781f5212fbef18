"""Values that fit a plain JSON Schema, for answers that are made up."""

import random
from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue

from agents_app.core.model import JsonSchema

WORDS = ("amber", "basil", "cedar", "delta", "ember", "fable", "grove", "haven", "iris", "jade")
# Lists multiply at each level; these keep the value in the order of the schema's own size.
_DEEPEST = 8
_LONGEST = 3


def sample_of(schema: JsonSchema, rng: random.Random) -> JsonValue:
    """A value of the types that a valid schema names; what goes beyond types may not fit."""
    return _sample(schema, rng, depth=0)


def _sample(schema: Any, rng: random.Random, *, depth: int) -> JsonValue:
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return None
    for key in ("const", "default"):
        if key in schema:
            fixed: JsonValue = schema[key]
            return fixed
    if schema.get("enum"):
        chosen: JsonValue = rng.choice(schema["enum"])
        return chosen
    return _of_type(schema, rng, depth=depth + 1)


def _of_type(schema: JsonSchema, rng: random.Random, *, depth: int) -> JsonValue:
    match schema.get("type", "object" if "properties" in schema else "string"):
        case "object":
            properties = schema.get("properties", {})
            return {key: _sample(each, rng, depth=depth) for key, each in properties.items()}
        case "array":
            length = min(_LONGEST, max(schema.get("minItems", 0), schema.get("maxItems", 2)))
            items = schema.get("items", {})
            return [_sample(items, rng, depth=depth) for _ in range(length)]
        case "integer" | "number":
            lowest = int(schema.get("minimum", 0))
            return rng.randint(lowest, max(lowest, int(schema.get("maximum", lowest + 100))))
        case "boolean":
            return rng.random() < 0.5
        case "null":
            return None
    return rng.choice(WORDS)
