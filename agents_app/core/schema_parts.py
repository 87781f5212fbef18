"""The parts of a JSON Schema: where schemas may stand in it, and how their places are written."""

from collections.abc import Iterator
from typing import Any, Final

# Below these stand values, or schemas under names, where a key is no keyword.
_VALUES: Final = frozenset({"enum", "const", "default", "examples"})
_NAMED: Final = frozenset({"properties", "$defs", "definitions", "dependentSchemas"})
_SHOWN = 200
_GAP = " ... "


def below(schema: object) -> Iterator[tuple[str, object]]:
    """What stands right below and may be or hold schemas, each with its place."""
    if isinstance(schema, list):
        for index, item in enumerate(schema):
            yield part_of(index), item
    if not isinstance(schema, dict):
        return
    for keyword, given in schema.items():
        if keyword in _NAMED and isinstance(given, dict):
            for name, child in given.items():
                yield part_of(keyword) + part_of(name), child
        elif keyword not in _VALUES:
            yield part_of(keyword), given


def objects_in(schema: object) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
    for _, child in below(schema):
        yield from objects_in(child)


def part_of(part: object) -> str:
    return "/" + str(part).replace("~", "~0").replace("/", "~1")


def shortened(message: str) -> str:
    # The library quotes the offending value, which can be the whole answer.
    if len(message) <= _SHOWN:
        return message
    half = (_SHOWN - len(_GAP)) // 2
    return f"{message[:half]}{_GAP}{message[-half:]}"
