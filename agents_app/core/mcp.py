"""What MCP servers offer, as tools of ours: under names that providers of models take.

A server is a stranger: nothing that it says is taken as it is, and all of it within bounds.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from pydantic import JsonValue

from agents_app.core import values
from agents_app.core.errors import UnusableSchemaError
from agents_app.core.json_schema import misfits, pointer_of, schema_fault
from agents_app.core.model import JsonSchema

SERVER_NAME: Final = re.compile(r"^[a-z0-9](?:[a-z0-9-]{0,22}[a-z0-9])?\Z")
# What the providers of models take as the name of a tool.
LONGEST_NAME: Final = 64
MOST_TOOLS: Final = 128
MOST_DESCRIPTION: Final = 2_000
MOST_SCHEMA_BYTES: Final = 16_000
MOST_LISTING_BYTES: Final = 500_000
_BETWEEN: Final = "__"
_SHOWN: Final = 100
_FOREIGN: Final = re.compile(r"[^A-Za-z0-9_-]")
# Characters that people do not see and models read: controls, directions, tags, private ones.
_UNSEEN: Final = frozenset({"Cc", "Cf", "Co", "Cn"})
_SEEN_ALL_THE_SAME: Final = frozenset("\n\t")


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A tool as its server describes it."""

    name: str
    description: str
    schema: Mapping[str, Any]
    is_repeatable: bool
    is_destructive: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedTool:
    """A tool as agents get it: `name` is ours, `remote` what its server calls it.

    One that `is_destructive`, as its server says in so many words, is called with approval alone.
    """

    name: str
    remote: str
    description: str
    parameters: JsonSchema
    is_repeatable: bool
    is_destructive: bool = False

    @classmethod
    def of_row(cls, stored: Mapping[str, Any]) -> Self:
        return cls(**stored)

    def as_row(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What a server offers, and in words what of it cannot be used."""

    tools: tuple[ListedTool, ...]
    left_out: tuple[str, ...]


def listing_of(server: str, offers: Iterable[Offer]) -> Listing:
    """The server's tools under names of ours, each of them once, in the order of their names."""
    taken: dict[str, ListedTool] = {}
    left_out: list[str] = []
    size = 0
    # A name that needs no change goes before those that become it.
    for offer in sorted(offers, key=lambda each: (bool(_FOREIGN.search(each.name)), each.name)):
        tool = _listed(server, offer)
        size += values.json_size(tool.as_row()) if isinstance(tool, ListedTool) else 0
        if isinstance(tool, str):
            left_out.append(tool)
        elif tool.name in taken:
            rival = taken[tool.name].remote
            left_out.append(_told(offer.name, f"becomes {tool.name!r}, as {rival!r} does"))
        elif len(taken) == MOST_TOOLS or size > MOST_LISTING_BYTES:
            left_out.append(_told(offer.name, "the server offers more than is taken"))
        else:
            taken[tool.name] = tool
    tools = sorted(taken.values(), key=lambda tool: tool.name)
    return Listing(tools=tuple(tools), left_out=tuple(left_out[:MOST_TOOLS]))


def tool_name(server: str, remote: str) -> str:
    """What we call a server's tool. Letters that providers do not take become underscores."""
    return f"{server}{_BETWEEN}{_FOREIGN.sub('_', remote)}"


def changes_between(
    before: Sequence[ListedTool], after: Sequence[ListedTool]
) -> dict[str, list[str]]:
    """The names that came, went, or whose tools are described differently now; empty if none."""
    old, new = ({tool.remote: tool for tool in tools} for tools in (before, after))
    found = {
        "added": sorted(new.keys() - old.keys()),
        "removed": sorted(old.keys() - new.keys()),
        "changed": sorted(name for name in new.keys() & old.keys() if new[name] != old[name]),
    }
    return {kind: names for kind, names in found.items() if names}


def checked_arguments(
    arguments: Mapping[str, JsonValue], schema: JsonSchema
) -> Mapping[str, JsonValue]:
    """The arguments, if they fit. Raises ValueError in words that a model may read."""
    try:
        problems = [
            f"{pointer_of(problem) or '/'}: {problem.message}"
            for problem, _ in zip(misfits(dict(arguments), schema), range(5), strict=False)
        ]
    except UnusableSchemaError as error:
        raise ValueError(f"the tool's schema cannot be applied: {error}") from error
    if problems:
        raise ValueError("; ".join(problems))
    return arguments


def plain_text(text: str) -> str:
    """The text without what people cannot see."""
    return "".join(
        character
        for character in values.clean_text(text)
        if character in _SEEN_ALL_THE_SAME or unicodedata.category(character) not in _UNSEEN
    )


def _listed(server: str, offer: Offer) -> ListedTool | str:
    """The tool, or why it is left out."""
    name = tool_name(server, offer.name)
    if not offer.name or len(name) > LONGEST_NAME:
        return _told(offer.name, f"its name is empty or too long; with the server's {LONGEST_NAME}")
    if plain_text(offer.name) != offer.name:
        return _told(offer.name, "its name holds characters that nobody sees")
    try:
        schema = _object_schema(offer.schema)
        size, fault = values.json_size(schema), schema_fault(schema)
    except (ValueError, TypeError, RecursionError):
        return _told(offer.name, "its schema is no JSON, or nested too deeply")
    if size > MOST_SCHEMA_BYTES:
        return _told(offer.name, f"its schema has {size:,} bytes; at most {MOST_SCHEMA_BYTES:,}")
    if fault:
        return _told(offer.name, f"its schema: {fault}")
    return ListedTool(
        name=name,
        remote=offer.name,
        description=_described(offer),
        parameters=schema,
        is_repeatable=offer.is_repeatable,
        is_destructive=offer.is_destructive,
    )


def _described(offer: Offer) -> str:
    text = plain_text(offer.description).strip()
    if len(text) > MOST_DESCRIPTION:
        text = f"{text[:MOST_DESCRIPTION]} ..."
    return text or f"The tool {offer.name}, which its server does not describe."


def _object_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of an object, as providers ask for it, its texts free of what is hidden."""
    plain: Any = _plain(dict(schema))
    plain.pop("$schema", None)
    if plain.setdefault("type", "object") != "object":
        raise ValueError("arguments are an object")
    plain.setdefault("properties", {})
    return dict(plain)


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return plain_text(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {plain_text(str(key)): _plain(item) for key, item in value.items()}
    return value


def _told(name: str, why: str) -> str:
    return f"{plain_text(name)[:_SHOWN]!r}: {why}"[: 3 * _SHOWN]
