"""Where the references of a JSON Schema lead, and how large they make it."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, TypeAlias
from urllib.parse import unquote

from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from agents_app.core.errors import UnusableSchemaError
from agents_app.core.schema_parts import below, objects_in, part_of, shortened
from agents_app.core.schema_validator import REFERENCES

# Parts of a schema once its references are followed. Thousands of fields fit.
MAX_PARTS = 10_000
# The library keeps its class to itself.
_Resolver: TypeAlias = Any


class Expansion:
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
        for place, child in below(schema):
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
        for keyword in REFERENCES & schema.keys():
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
            for schema in objects_in(self._schema)
            for keyword in ("$anchor", "$dynamicAnchor")
            if isinstance(schema.get(keyword), str)
        }


def _item(holder: object, key: str) -> object:
    if isinstance(holder, dict):
        return holder.get(key)
    if isinstance(holder, list) and key.isdecimal() and int(key) < len(holder):
        return holder[int(key)]
    return None


def dead_ends(schema: Mapping[str, Any]) -> Iterator[str]:
    """Each reference of a schema that leads to none, with its place.

    The schema fits the standard otherwise.
    """
    try:
        root = DRAFT202012.create_resource(schema)
        # Anchors and embedded schemas are found once and for all.
        registry = Registry().with_resource("", root).crawl()
        yield from _dead_ends(schema, registry.resolver(root.id() or ""), at="")
    except ValueError:
        yield "an `$id` is no address"


def _dead_ends(schema: object, resolver: _Resolver, *, at: str) -> Iterator[str]:
    if isinstance(schema, dict):
        resolver = resolver.in_subresource(DRAFT202012.create_resource(schema))
        for keyword in sorted(REFERENCES & schema.keys()):
            if not _leads_somewhere(schema[keyword], resolver):
                target = shortened(schema[keyword])
                place = shortened(at + part_of(keyword))
                yield f"{place}: `{target}` leads to no schema here; define it below `$defs`"
    for place, child in below(schema):
        yield from _dead_ends(child, resolver, at=at + place)


def _leads_somewhere(reference: str, resolver: _Resolver) -> bool:
    try:
        found = resolver.lookup(reference).contents
    except (Unresolvable, ValueError, TypeError, AttributeError):
        # The library's words for a place inside of what has no places vary.
        return False
    return isinstance(found, dict | bool)
