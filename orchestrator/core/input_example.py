"""An input to begin with, made from what a JSON Schema says."""

from collections.abc import Mapping
from typing import Final

from orchestrator.core.jsonvalue import Json

_EMPTY: Final[Mapping[str, Json]] = {
    "string": "",
    "integer": 0,
    "number": 0,
    "boolean": False,
    "array": [],
    "object": {},
    "null": None,
}


def example_input(schema: Json) -> Json:
    """Each property with its default, its first example or choice, or an empty value."""
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict):
        return {}
    return {name: _example(part) for name, part in properties.items()}


def _example(schema: Json) -> Json:
    if not isinstance(schema, dict):
        return None
    for known in ("default", "const"):
        if known in schema:
            return schema[known]
    for known in ("examples", "enum"):
        choices = schema.get(known)
        if isinstance(choices, list) and choices:
            return choices[0]
    if schema.get("properties"):
        return example_input(schema)
    kind = schema.get("type")
    return _EMPTY.get(str(kind[0] if isinstance(kind, list) and kind else kind), "")
