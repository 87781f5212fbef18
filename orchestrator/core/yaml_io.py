"""Workflow text in and out: YAML 1.2 core, of which JSON is a part.

PyYAML's parser delivers events and nothing is built that the format does not allow: no tags, no
aliases, no duplicate keys. Scalars are read by the rules of YAML 1.2, so that `on`, `no` and
`1:30` stay text. The events are folded with a stack of our own, since depth is the attacker's.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn

import yaml

from orchestrator.core.collector import paused_collector
from orchestrator.core.errors import SpecSyntaxError
from orchestrator.core.jsonvalue import MAX_DEPTH, Json, is_too_deep

MAX_BYTES = 5_000_000
MAX_DIGITS = 300

_NULL = {"", "~", "null", "Null", "NULL"}
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?(?:\.(?:inf|Inf|INF)|Infinity)|\.(?:nan|NaN|NAN)|NaN")
# YAML 1.1 ends a line at these, so they are only safe when escaped.
_BREAKS_OF_1_1 = frozenset("\r\x85\u2028\u2029\ufeff")
# Every plain scalar that is not text begins with one of these.
_TYPED_START = frozenset("0123456789+-.~ntfNTFI")


@paused_collector()
def load_text(source: str | bytes, *, max_bytes: int = MAX_BYTES) -> dict[str, Json]:
    """The document as plain JSON values, or SpecSyntaxError with the line and the column."""
    text = _decoded(source, max_bytes=max_bytes)
    document = _quick_json(text)
    if document is None:
        document = _load_yaml(text)
    if not isinstance(document, dict):
        raise SpecSyntaxError("The document must be a mapping such as `name: my-workflow`", 1, 1)
    return document


def dump_text(document: dict[str, Json]) -> str:
    """Readable YAML that `load_text`, and a YAML 1.1 reader too, reads back the same."""
    return yaml.dump(
        document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100, indent=2
    )


def _decoded(source: str | bytes, *, max_bytes: int) -> str:
    size = len(source)
    if size > max_bytes:
        raise SpecSyntaxError(
            f"The document has {size:,} bytes; at most {max_bytes:,} are read. Split the workflow"
        )
    if isinstance(source, str):
        return source.removeprefix("\ufeff")
    try:
        return source.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = source.count(b"\n", 0, error.start) + 1
        raise SpecSyntaxError("The document is not UTF-8 text", line, 1) from error


class _NotQuickError(Exception):
    """The document needs the YAML reader, which can say where its fault lies."""


def _quick_json(text: str) -> Json:
    """The document if it is faultless JSON: 10 times as fast as reading it as YAML."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        document: Json = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_finite
        )
    except (ValueError, RecursionError, _NotQuickError):
        return None
    return None if is_too_deep(document) else document


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise _NotQuickError
    return mapping


def _refuse(_constant: str) -> NoReturn:
    raise _NotQuickError


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise _NotQuickError
    return number


@dataclass(slots=True)
class _Open:
    """A mapping or a list that is still being read."""

    is_mapping: bool
    mapping: dict[str, Json] = field(default_factory=dict)
    items: list[Json] = field(default_factory=list)
    key: str | None = None

    @property
    def value(self) -> Json:
        return self.mapping if self.is_mapping else self.items

    def add(self, value: Json, *, event: yaml.Event) -> None:
        if not self.is_mapping:
            self.items.append(value)
        elif self.key is not None:
            self.mapping[self.key] = value
            self.key = None
        else:
            self.key = self._new_key(value, event=event)

    def _new_key(self, value: Json, *, event: yaml.Event) -> str:
        # A key such as `1` or `true` is meant as a name.
        key = event.value if isinstance(event, yaml.ScalarEvent) else None
        if not isinstance(key, str):
            _fail("A key must be plain text", event)
        if value is None and not key:
            _fail("A key is missing before the colon", event)
        if key in self.mapping:
            _fail(f"The key `{key}` stands here twice; keep one", event)
        return key


def _load_yaml(text: str) -> Json:
    root = _Open(is_mapping=False)
    stack = [root]
    for event in _events(text):
        if isinstance(event, yaml.ScalarEvent):
            stack[-1].add(_scalar(event), event=event)
        elif isinstance(event, yaml.CollectionStartEvent):
            if len(stack) > MAX_DEPTH:
                _fail(f"Nested deeper than {MAX_DEPTH} levels; flatten it", event)
            stack.append(_Open(is_mapping=isinstance(event, yaml.MappingStartEvent)))
        elif isinstance(event, yaml.CollectionEndEvent):
            done = stack.pop()
            stack[-1].add(done.value, event=event)
    if not root.items:
        raise SpecSyntaxError("The document is empty", 1, 1)
    return root.items[0]


def _events(text: str) -> Iterator[yaml.Event]:
    """The parser's events, without those that the format does not know."""
    documents = 0
    try:
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            if isinstance(event, yaml.AliasEvent):
                _fail("Aliases (`*name`) are not read; write the value out", event)
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    _fail("Only one document is read; remove what follows `---`", event)
            elif isinstance(event, yaml.NodeEvent):
                _refuse_extras(event)
            yield event
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        raise SpecSyntaxError(f"Not readable as YAML: {error.problem}", *place) from error
    except (yaml.YAMLError, UnicodeEncodeError) as error:
        raise SpecSyntaxError(f"Not readable as YAML: {_first_line(error)}") from error


def _refuse_extras(event: yaml.NodeEvent) -> None:
    if event.anchor:
        _fail("Anchors (`&name`) are not read; write the value out where it is used", event)
    tag = getattr(event, "tag", None)
    if tag:
        _fail(f"Tags such as `{tag}` are not read; remove it", event)


def _scalar(event: yaml.ScalarEvent) -> Json:
    text: str = event.value
    if event.style or (text and text[0] not in _TYPED_START):
        return text
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _NOT_FINITE.fullmatch(text):
        _fail(f"`{text}` is not a number that JSON knows; quote it if it is text", event)
    return _number(text, event=event)


def _number(text: str, *, event: yaml.ScalarEvent) -> Json:
    if not _FLOAT.fullmatch(text) and not _INT.fullmatch(text):
        return text
    if len(text) > MAX_DIGITS:
        _fail(f"A number of {len(text)} digits is too long; quote it if it is text", event)
    if _INT.fullmatch(text):
        return int(text, 0) if text[:2] in {"0o", "0x"} else int(text)
    number = float(text)
    if not math.isfinite(number):
        _fail(f"`{text}` is too large for a number; quote it if it is text", event)
    return number


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _fail(message: str, event: yaml.Event) -> NoReturn:
    mark = event.start_mark
    place = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    raise SpecSyntaxError(message, *place)


class _Dumper(yaml.CSafeDumper):
    """Block style, text of several lines as `|`, and quotes wherever a reader might retype."""

    def ignore_aliases(self, data: object) -> bool:  # the same value twice is written twice
        return True


def _write_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    if not _BREAKS_OF_1_1.isdisjoint(text):
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _write_text)
# The base class quotes what YAML 1.1 would retype; these are numbers in YAML 1.2 alone, and the
# words that our own reader refuses.
for _pattern in (_INT, _FLOAT, _NOT_FINITE):
    _Dumper.add_implicit_resolver(
        "tag:muster,2026:retyped", re.compile(f"(?:{_pattern.pattern})$"), list("0123456789+-.NI")
    )
