"""How much a prompt asks of a model: simple, moderate or complex, by what can be counted.

The measure is for choosing between a cheap and a strong model before anything is known but the
prompt, so it is made of plain, cheap signs, each with its points:

    length       1 from 1,500 characters, 2 from 6,000, 3 from 20,000
    tasks        1 for the second thing that is asked for, 2 from the fourth: numbered or bulleted
                 lines, and words such as "then" or "finally" that put one after the other
    reasoning    1 for a word such as "why", "compare" or "prove", 2 from the third different one
    conditions   1 for the second different word such as "unless", "must" or "at least"
    code, maths  1 where the text holds code or a formula
    output       1 where the answer has to fit a schema with 5 to 19 fields, 2 from 20

0 to 1 points are simple, 2 to 4 moderate, 5 or more complex. The words are English; of a text in
another language only the other signs count. It knows nothing of the subject: "Prove Fermat's
last theorem" is short. Say the model where the guess would be wrong.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Complexity(StrEnum):
    SIMPLE = "simple"  # a cheap model does it
    MODERATE = "moderate"
    COMPLEX = "complex"  # worth a strong one


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """The points of a prompt, sign by sign, so that a person can see why."""

    length: int = 0
    tasks: int = 0
    reasoning: int = 0
    conditions: int = 0
    code: int = 0
    output: int = 0

    @property
    def points(self) -> int:
        return self.length + self.tasks + self.reasoning + self.conditions + self.code + self.output

    @property
    def complexity(self) -> Complexity:
        if self.points >= _COMPLEX_FROM:
            return Complexity.COMPLEX
        return Complexity.MODERATE if self.points >= _MODERATE_FROM else Complexity.SIMPLE


REASONING = (
    *("analyze", "analyse", "argue", "assess", "compare", "contrast", "critique", "debug"),
    *("deduce", "derive", "design", "diagnose", "evaluate", "explain", "infer", "justify"),
    *("optimize", "optimise", "plan", "prioritize", "prove", "reason", "refactor", "why"),
    *("trade-off", "trade-offs", "step by step", "pros and cons"),
)
CONDITIONS = (
    *("unless", "except", "only if", "otherwise", "provided that", "must", "must not"),
    *("at least", "at most", "no more than", "exactly", "without", "instead of"),
)
SEQUENCE = ("then", "next", "afterwards", "finally", "after that", "in addition")

_MODERATE_FROM, _COMPLEX_FROM = 2, 5
_LENGTHS = (1_500, 6_000, 20_000)
_TASKS = (2, 4)
_REASONING = (1, 3)
_CONDITIONS = (2,)
_FIELDS = (5, 20)
_ITEM = re.compile(r"^[ \t]{0,8}(?:[-*\u2022]|\d{1,3}[.)])[ \t]+\S", re.MULTILINE)
_CODE = re.compile(
    r"```|^[ \t]*(?:def|class|import|SELECT|function|const|public)\b.*[\w(:;{]$"
    r"|\\(?:frac|sum|int)\b|[\u2211\u222b\u221a\u2264\u2265]",
    re.MULTILINE,
)
# Whatever a prompt is made of, looking at it stays cheap.
_LOOKED_AT = 100_000
_DEEPEST = 20


def signs_of(prompt: str, *, system: str = "", schema: Mapping[str, Any] | None = None) -> Signs:
    """The points of a prompt with its system text and the schema of its answer."""
    text = f"{system}\n{prompt}"[:_LOOKED_AT]
    return Signs(
        length=_points(len(system) + len(prompt), _LENGTHS),
        tasks=_points(_tasks(text), _TASKS),
        reasoning=_points(_different(text, REASONING), _REASONING),
        conditions=_points(_different(text, CONDITIONS), _CONDITIONS),
        code=int(bool(_CODE.search(text))),
        output=_points(_fields(schema), _FIELDS),
    )


def complexity_of(
    prompt: str, *, system: str = "", schema: Mapping[str, Any] | None = None
) -> Complexity:
    return signs_of(prompt, system=system, schema=schema).complexity


def _points(amount: int, steps: tuple[int, ...]) -> int:
    return sum(amount >= step for step in steps)


def _tasks(text: str) -> int:
    """How many things are asked for: what is listed, or one and what is to follow it."""
    listed = len(_ITEM.findall(text))
    return max(listed, 1 + len(_WORDS[SEQUENCE].findall(text)))


def _different(text: str, words: tuple[str, ...]) -> int:
    return len({found.lower() for found in _WORDS[words].findall(text)})


def _fields(schema: Any, depth: int = 0) -> int:
    """The properties of a schema, those of its parts included."""
    if depth > _DEEPEST:
        return 0
    if isinstance(schema, list):
        return sum(_fields(part, depth + 1) for part in schema)
    if not isinstance(schema, Mapping):
        return 0
    properties = schema.get("properties")
    own = len(properties) if isinstance(properties, Mapping) else 0
    return own + sum(_fields(part, depth + 1) for part in schema.values())


def _any_of(words: tuple[str, ...]) -> re.Pattern[str]:
    # The longest first: "must not" is not "must".
    choices = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    return re.compile(rf"(?<![\w-])(?:{choices})(?![\w-])", re.IGNORECASE)


_WORDS: Mapping[tuple[str, ...], re.Pattern[str]] = {
    words: _any_of(words) for words in (REASONING, CONDITIONS, SEQUENCE)
}
