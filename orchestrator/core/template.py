"""Prompt templates: `${dotted.path}` with `??` for a default and `$${` for a literal `${`.

Rendering looks up keys of mappings and places in lists, never attributes, and what it puts in is
never read for variables again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

from orchestrator.core.errors import (
    MissingVariableError,
    TemplateSyntaxError,
    TemplateTooLargeError,
)
from orchestrator.core.jsonvalue import Json

MAX_RENDERED_BYTES = 1_000_000
# A template takes up to fifty times its text, so this bounds what is remembered to 50 MB.
_MAX_REMEMBERED = 1_000

_OPENING = re.compile(r"\$?\$\{")
_OPERAND = re.compile(
    r"""\s*(?:
        (?P<path>[A-Za-z_]\w*(?:\.[\w-]+)*)
      | '(?P<text>(?:[^']|'')*)'
      | (?P<number>-?\d{1,15}(?:\.\d{1,15})?)
    )\s*(?P<end>\?\?|\})""",
    re.VERBOSE | re.ASCII,
)
_WORDS: Final[Mapping[str, Json]] = {"null": None, "true": True, "false": False}
_HELP = (
    "write ${input.name}, ${steps.a.output} or ${input.name ?? 'default'}, and $${ for a literal"
)


@dataclass(frozen=True, slots=True)
class Path:
    """A variable: its root and the way down from it."""

    parts: tuple[str, ...]

    def __str__(self) -> str:
        return ".".join(self.parts)


@dataclass(frozen=True, slots=True)
class Literal:
    value: Json


@dataclass(frozen=True, slots=True)
class Expression:
    """Operands in order of preference: the first that is there and not null counts."""

    operands: tuple[Path | Literal, ...]

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(operand for operand in self.operands if isinstance(operand, Path))


@dataclass(frozen=True, slots=True)
class Template:
    parts: tuple[str | Expression, ...]

    @property
    def expressions(self) -> tuple[Expression, ...]:
        return tuple(part for part in self.parts if isinstance(part, Expression))

    @property
    def lone(self) -> Expression | None:
        """The expression that is the whole template, whose value keeps its type."""
        first = self.parts[0] if len(self.parts) == 1 else None
        return first if isinstance(first, Expression) else None


Context: TypeAlias = Mapping[str, Json]


def parse(text: str) -> Template:
    """The template that `text` is, or TemplateSyntaxError."""
    return _remembered(text) if len(text) <= _MAX_REMEMBERED else _parsed(text)


@lru_cache(maxsize=1_024)
def _remembered(text: str) -> Template:
    return _parsed(text)


def _parsed(text: str) -> Template:
    parts: list[str | Expression] = []
    literal: list[str] = []
    position = 0
    while opening := _OPENING.search(text, position):
        literal.append(text[position : opening.start()])
        position = opening.end()
        if opening.group() == "$${":
            literal.append("${")
            continue
        expression, position = _expression(text, position)
        parts += [*_joined(literal), expression]
        literal = []
    literal.append(text[position:])
    return Template((*parts, *_joined(literal)))


def _joined(literal: list[str]) -> list[str]:
    text = "".join(literal)
    return [text] if text else []


def _expression(text: str, position: int) -> tuple[Expression, int]:
    start, operands, end = position, [], "??"
    while end == "??":
        match = _OPERAND.match(text, position)
        if match is None:
            shown = text[start - 2 : start + 40].partition("\n")[0]
            raise TemplateSyntaxError(f"`{shown}` is not a variable: {_HELP}")
        operands.append(_operand(match))
        position, end = match.end(), match["end"]
    return Expression(tuple(operands)), position


def _operand(match: re.Match[str]) -> Path | Literal:
    if match["text"] is not None:
        return Literal(match["text"].replace("''", "'"))
    if match["number"] is not None:
        number: Json = json.loads(match["number"].lstrip("0") or "0")
        return Literal(number)
    if match["path"] in _WORDS:
        return Literal(_WORDS[match["path"]])
    return Path(tuple(match["path"].split(".")))


def expressions(value: Json) -> Iterator[tuple[tuple[str | int, ...], Template]]:
    """Every text with variables inside a JSON value, with the way to it."""
    if isinstance(value, str):
        if "${" in value:
            yield (), parse(value)
        return
    children: Sequence[tuple[str | int, Json]] = ()
    if isinstance(value, dict):
        children = list(value.items())
    elif isinstance(value, list):
        children = list(enumerate(value))
    for key, child in children:
        for way, template in expressions(child):
            yield (key, *way), template


def references(value: Json) -> frozenset[str]:
    """The paths that a text, or the texts inside a JSON value, refer to."""
    return frozenset(
        str(path)
        for _, template in expressions(value)
        for expression in template.expressions
        for path in expression.paths
    )


def as_is(_path: Path, value: Json) -> Json:
    return value


def render(
    value: Json,
    context: Context,
    *,
    max_bytes: int = MAX_RENDERED_BYTES,
    shown: Callable[[Path, Json], Json] = as_is,
) -> Json:
    """`value` with its variables filled in.

    A text that is one lone `${...}` becomes the variable's own value; inside other text, what is
    not text becomes JSON. `shown` says in which form a variable's value is put in. Raises
    MissingVariableError, or TemplateTooLargeError past `max_bytes` in all.
    """
    return _Renderer(context=context, left=max_bytes, limit=max_bytes, shown=shown).render(value)


@dataclass(slots=True, kw_only=True)
class _Renderer:
    context: Context
    left: int
    limit: int
    shown: Callable[[Path, Json], Json]

    def render(self, value: Json) -> Json:
        if isinstance(value, dict):
            return {key: self.render(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.render(item) for item in value]
        return self._filled(parse(value)) if isinstance(value, str) else value

    def _filled(self, template: Template) -> Json:
        if template.lone:
            value = self._value(template.lone)
            self._spend(_as_text(value))
            return value
        texts = []
        for part in template.parts:
            text = part if isinstance(part, str) else _as_text(self._value(part))
            self._spend(text)
            texts.append(text)
        return "".join(texts)

    def _value(self, expression: Expression) -> Json:
        operand, value = _chosen(expression, self.context)
        return self.shown(operand, value) if isinstance(operand, Path) else value

    def _spend(self, text: str) -> None:
        self.left -= len(text) if text.isascii() else len(text.encode())
        if self.left < 0:
            raise TemplateTooLargeError(
                f"The rendered text passes {self.limit:,} bytes; refer to less"
            )


def _chosen(expression: Expression, context: Context) -> tuple[Path | Literal, Json]:
    """The first operand that is there and not null; the last, if that is there and null."""
    missing: MissingVariableError | None = None
    for operand in expression.operands:
        if isinstance(operand, Literal):
            value, missing = operand.value, None
        else:
            try:
                value, missing = look_up(operand, context), None
            except MissingVariableError as error:
                value, missing = None, error
        if value is not None:
            return operand, value
    if missing:
        raise missing
    return expression.operands[-1], None


def look_up(path: Path, context: Context) -> Json:
    """What stands at `path`, or MissingVariableError with what stands there instead."""
    value: object = context
    for depth, part in enumerate(path.parts):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            raise MissingVariableError(str(path), ".".join(path.parts[:depth]), _offered(value))
    return value  # type: ignore[return-value]  # a context holds nothing but JSON


def _offered(value: object) -> list[str]:
    if isinstance(value, Mapping):
        names = sorted(map(str, value))
        return names[:20] + (["..."] if len(names) > 20 else [])
    if isinstance(value, list):
        return [f"the places 0 to {len(value) - 1}"] if value else []
    return ["only null"] if value is None else [f"only a value ({type(value).__name__})"]


def _as_text(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
