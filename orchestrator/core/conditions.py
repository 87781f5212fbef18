"""Conditions in CEL: compiled once, checked for what they may cost, and always a bool.

A reader of our own looks at the tokens first. It finds the steps that a condition refers to, and
refuses what the library does not bound: its parser can abort on deep nesting, and a comprehension
over a long list can compare each item with all others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from typing import Final, TypeVar

import cel

from orchestrator.core.errors import ConditionError
from orchestrator.core.jsonvalue import Json

MAX_SOURCE = 4_000
# A compiled condition takes up to fifty times its text; these take 25 MB at most.
_MAX_REMEMBERED = 500
MAX_NESTING = 24
MAX_INPUT_BYTES = 1_000_000
# List items times input bytes times names read; about a second on one core.
MAX_WORK = 2_000_000_000

ROOTS: Final = frozenset({"input", "steps", "loop", "item", "index"})
_MACROS = frozenset({"all", "exists", "exists_one", "map", "filter"})
_CONSTANTS = frozenset({"true", "false", "null", "in"})
# CEL reserves this word; the library knows it under the other name.
_LOOP, _LOOP_ALIAS = "loop", "loop_"
_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*)
      | (?P<text>[rRbB]{0,2}(?:\"{3}(?s:.)*?\"{3}|'{3}(?s:.)*?'{3}
                 |\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'))
      | (?P<number>(?:0x[0-9a-fA-F]+|[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)u?)
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<sign>&&|\|\||[=!<>]=|[-+*/%<>!?:,.()\[\]{}])""",
    re.VERBOSE,
)

_PLAIN_TEXT = re.compile(r"""(["'])((?:(?!\1)[^\\\n])*)\1""")
# What may stand around a path or a text for it to be compared as a whole.
_BEFORE = frozenset({"(", "[", "{", ",", "!", "&&", "||", "?", ":"})
_AFTER = frozenset({")", "]", "}", ",", "&&", "||", "?", ":"})

ArgumentT = TypeVar("ArgumentT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A checked condition. `steps` are the steps and `roots` the variables that it reads.

    `compared` has each path that is held against plain texts, and these.
    """

    source: str
    steps: frozenset[str]
    roots: frozenset[str]
    program: cel.Program
    reads: int
    has_comprehension: bool
    compared: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = ()

    def evaluate(self, context: Mapping[str, Json]) -> bool:
        """True or false, or ConditionError with the reason why it is neither."""
        narrowed = self._narrowed(context)
        self._check_work(narrowed)
        variables = {_LOOP_ALIAS if key == _LOOP else key: narrowed[key] for key in narrowed}
        result = _guarded(self.program.execute, variables, source=self.source)
        if not isinstance(result, bool):
            kind = type(result).__name__
            raise ConditionError(
                f"`{self.source}` gives a {kind}; compare it, so that it is a bool"
            )
        return result

    def _narrowed(self, context: Mapping[str, Json]) -> dict[str, Json]:
        narrowed = {root: context[root] for root in self.roots if root in context}
        steps = narrowed.get("steps")
        if isinstance(steps, dict):
            narrowed["steps"] = {name: steps[name] for name in self.steps if name in steps}
        return narrowed

    def _check_work(self, context: Mapping[str, Json]) -> None:
        size = len(json.dumps(context, ensure_ascii=False).encode("utf-8", "surrogatepass"))
        if size > MAX_INPUT_BYTES:
            raise ConditionError(
                f"`{self.source}` would read {size:,} bytes; {MAX_INPUT_BYTES:,} are allowed"
            )
        if self.has_comprehension and _longest(context) * size * self.reads > MAX_WORK:
            raise ConditionError(
                f"`{self.source}` would take too long on {size:,} bytes; "
                "shorten the list or compute the answer in a step"
            )


def compile_condition(source: str, *, roots: frozenset[str] = ROOTS) -> Condition:
    """The condition over some variables, or ConditionError with what is wrong with it."""
    compiled = _remembered if len(source) <= _MAX_REMEMBERED else _compiled
    return compiled(source, roots)


@lru_cache(maxsize=1_024)
def _remembered(source: str, roots: frozenset[str]) -> Condition:
    return _compiled(source, roots)


def _compiled(source: str, known: frozenset[str]) -> Condition:
    if len(source) > MAX_SOURCE:
        raise ConditionError(f"A condition has at most {MAX_SOURCE:,} characters")
    tokens = list(_tokens(source))
    has_comprehension = _check_nesting(tokens)
    roots, steps = _references(tokens, known)
    text = " ".join(_renamed(tokens))
    return Condition(
        source=source,
        steps=steps,
        roots=roots,
        program=_guarded(cel.compile, text, source=source),
        reads=sum(token.kind == "name" for token in tokens),
        has_comprehension=has_comprehension,
        # Inside of comprehensions names mean what these say.
        compared=() if has_comprehension else tuple(_comparisons(tokens)),
    )


def _tokens(source: str) -> Iterator[_Token]:
    position = 0
    while position < len(source):
        match = _TOKEN.match(source, position)
        if match is None:
            raise ConditionError(f"`{source[position : position + 20]}` is not CEL")
        if match.lastgroup and match.lastgroup != "space":
            yield _Token(match.lastgroup, match.group())
        position = match.end()


def _check_nesting(tokens: list[_Token]) -> bool:
    """Whether there is a comprehension; refuses nested ones, deep nesting and loose brackets."""
    open_brackets: list[tuple[str, bool]] = []
    found = False
    for index, token in enumerate(tokens):
        if token.kind != "sign":
            continue
        if token.text in "([{":
            is_macro = token.text == "(" and _is_macro(tokens, index)
            if is_macro and any(inside for _, inside in open_brackets):
                raise ConditionError("Comprehensions may not be nested; compute it in a step")
            found = found or is_macro
            open_brackets.append((token.text, is_macro))
        elif token.text in ")]}":
            _check_pair(open_brackets.pop()[0] if open_brackets else "", token.text)
        if len(open_brackets) > MAX_NESTING:
            raise ConditionError(f"Nested deeper than {MAX_NESTING} brackets")
    if open_brackets:
        raise ConditionError(f"`{open_brackets[-1][0]}` is never closed")
    return found


def _check_pair(opened: str, closed: str) -> None:
    if opened + closed not in {"()", "[]", "{}"}:
        raise ConditionError(f"`{closed}` closes nothing")


def _is_macro(tokens: list[_Token], index: int) -> bool:
    before = [token.text for token in tokens[max(0, index - 2) : index]]
    return len(before) == 2 and before[0] == "." and before[1] in _MACROS


def _references(
    tokens: list[_Token], known: frozenset[str]
) -> tuple[frozenset[str], frozenset[str]]:
    roots, steps = set(), set()
    for index, token in enumerate(tokens):
        if token.kind != "name" or token.text not in known or _is_field(tokens, index):
            continue
        roots.add(token.text)
        if token.text == "steps":
            steps.add(_step_name(tokens[index + 1 : index + 4]))
    return frozenset(roots), frozenset(steps)


def _is_field(tokens: list[_Token], index: int) -> bool:
    """After a dot, or before the colon of a mapping: a field's name, not a variable."""
    return index > 0 and tokens[index - 1].text == "."


def _step_name(following: list[_Token]) -> str:
    kinds, texts = [token.kind for token in following], [token.text for token in following]
    if texts[:1] == ["."] and kinds[1:2] == ["name"]:
        return texts[1]
    if texts[:1] == ["["] and kinds[1:2] == ["text"] and texts[2:3] == ["]"]:
        return texts[1].strip("\"'")
    raise ConditionError("After `steps` comes a step's name, as in steps.review.output.score")


def _comparisons(tokens: list[_Token]) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """`path == "text"`, the same the other way round, and `path in ["text", ...]`."""
    for index, token in enumerate(tokens):
        if token.text in {"==", "!="}:
            before, after = _before(tokens, index), _after(tokens, index + 1)
            pairs = [(_dotted(before), _texts(after)), (_dotted(after), _texts(before))]
        elif token.text == "in" and [each.text for each in tokens[index + 1 : index + 2]] == ["["]:
            listed = takewhile(lambda each: each.text != "]", tokens[index + 2 :])
            pairs = [(_dotted(_before(tokens, index)), _texts(list(listed)[::2]))]
        else:
            continue
        yield from ((path, texts) for path, texts in pairs if path and texts)


def _before(tokens: list[_Token], end: int) -> list[_Token]:
    """The path or the text that ends there; empty if it is part of more."""
    start = end
    while start and _is_operand(tokens[start - 1]):
        start -= 1
    is_part = start > 0 and tokens[start - 1].text not in _BEFORE
    return [] if is_part else tokens[start:end]


def _after(tokens: list[_Token], start: int) -> list[_Token]:
    end = start
    while end < len(tokens) and _is_operand(tokens[end]):
        end += 1
    is_part = end < len(tokens) and tokens[end].text not in _AFTER
    return [] if is_part else tokens[start:end]


def _is_operand(token: _Token) -> bool:
    return token.kind in {"name", "text"} or token.text == "."


def _dotted(tokens: list[_Token]) -> tuple[str, ...]:
    texts = [token.text for token in tokens]
    is_path = texts[:1] and texts[0] in ROOTS and all(text == "." for text in texts[1::2])
    return tuple(texts[::2]) if is_path and len(texts) % 2 else ()


def _texts(tokens: list[_Token]) -> tuple[str, ...]:
    """The texts, if all of them are plain: without prefixes, escapes and tripled quotes."""
    quoted = [_PLAIN_TEXT.fullmatch(token.text) for token in tokens]
    return tuple(match.group(2) for match in quoted if match) if all(quoted) else ()


def _renamed(tokens: list[_Token]) -> Iterator[str]:
    for index, token in enumerate(tokens):
        is_loop = token.text == _LOOP and not _is_field(tokens, index)
        yield _LOOP_ALIAS if is_loop else token.text


def _guarded(call: Callable[[ArgumentT], ResultT], argument: ArgumentT, *, source: str) -> ResultT:
    try:
        return call(argument)
    except (KeyboardInterrupt, SystemExit):
        raise
    # The library's panics are no Exception; a condition must not take its worker down.
    except BaseException as error:
        raise ConditionError(f"The condition `{source}` failed: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    if isinstance(error, KeyError) and error.args:
        return f"there is no `{error.args[0]}`; ask with `has(...)` first where it may be missing"
    return str(error).partition("\n")[0] or type(error).__name__


def _longest(value: object) -> int:
    """The length of the longest list or mapping inside."""
    longest, layer = 0, [value]
    while layer:
        below: list[object] = []
        for item in layer:
            if isinstance(item, (dict, list)):
                longest = max(longest, len(item))
                below += item.values() if isinstance(item, dict) else item
        layer = below
    return longest
