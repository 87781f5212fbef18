"""Plans for what a few patterns describe, made without a model.

An objective is taken apart at `then`, `and then`, `;` and the ends of sentences, and a part that
fits no pattern at `and` and commas before a verb of one. Each part has to fit a pattern whose tools
are there; if one does not, there is no plan at all: half of what was asked may be worse than
nothing.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from agents_app.core.planning import Decision, Task

# People write short ones, and the time of some patterns grows with the square of the length.
_MOST: Final = 2_000
_BETWEEN: Final = re.compile(
    r"[;\n]|,? ?\b(?:and )?then\b,?|(?<=[^. ])\.(?= |$)|[!?](?= |$)", re.IGNORECASE
)
_POLITE: Final = r"(?:please|first|finally|also|and|now)\b"
_LEADING: Final = re.compile(rf"^(?:{_POLITE}[\s,]*)+", re.IGNORECASE)
_VERB: Final = (
    r"(?:add|create|make|new|put|remind|show|list|display|give|tell|what|how\s+much|calculate|"
    r"compute|evaluate|work\s+out|summari[sz]e|sum\s+up|fetch|get|read|open|load|download)\b"
)
_BEFORE_VERB: Final = rf"(?:,|,?\s(?:and|&))\s(?=(?:{_POLITE}\s){{0,2}}{_VERB})"
_AND: Final = re.compile(_BEFORE_VERB, re.IGNORECASE)
_TODO: Final = r"(?:to-?dos?|tasks?|reminders?)"
# What may be asked for as well is no part of a todo.
_TEXT: Final = rf"(?P<text>(?:(?!{_BEFORE_VERB}).)+?)"
_URL: Final = r"(?P<url>https?://\S+?)"

Fields = Mapping[str, str]
Made = list[tuple[str, str, Mapping[str, JsonValue]]]  # tool, title, arguments


@dataclass(frozen=True, slots=True)
class Pattern:
    """A form of words, and the calls of tools that do what it says, one after another.

    In arguments `${}` stands for the result of the call before.
    """

    form: re.Pattern[str]
    calls: Callable[[Fields], Made]


def _pattern(form: str, calls: Callable[[Fields], Made]) -> Pattern:
    return Pattern(re.compile(form, re.IGNORECASE | re.DOTALL), calls)


def _summary(said: Fields) -> Made:
    return [
        ("web_fetch", f"Read {said['url'][:150]}", {"url": said["url"]}),
        ("summarize_text", "Summarise it", {"text": "${}.text"}),
    ]


PATTERNS: Final = (
    _pattern(
        rf"(?:add|create|make|new)\s+(?:me\s+)?(?:an?\s+|the\s+)?{_TODO}\b(?!\s+lists?\b)\s*"
        rf"(?:to\b|for\b|:|called\b|named\b)?\s*{_TEXT}",
        lambda said: [("todo_create", "Add a todo", {"text": said["text"]})],
    ),
    _pattern(
        rf"(?:add|put)\s+{_TEXT}\s+(?:to|on|onto)\s+(?:my|the)\s+(?:{_TODO}\s*)?list",
        lambda said: [("todo_create", "Add a todo", {"text": said["text"]})],
    ),
    _pattern(
        rf"remind\s+me\s+to\s+{_TEXT}",
        lambda said: [("todo_create", "Add a todo", {"text": said["text"]})],
    ),
    _pattern(
        rf"(?:show|list|display|give|tell)\s+(?:me\s+)?(?:all\s+)?(?:of\s+)?(?:my\s+|the\s+)?"
        rf"(?:all\s+)?(?:open\s+)?{_TODO}(?:\s+list)?",
        lambda _: [("todo_list", "List the todos", {})],
    ),
    _pattern(
        rf"what\s+(?:are\s+)?(?:all\s+)?(?:my|the)\s+{_TODO}(?:\s+are\s+there)?",
        lambda _: [("todo_list", "List the todos", {})],
    ),
    _pattern(
        r"(?:calculate|compute|evaluate|work\s+out|how\s+much\s+is|what\s+is|what's)\s+"
        r"(?P<sum>[\d(.+-][\d\s().+*/%-]*)",
        lambda said: [("calculator", "Calculate", {"expression": said["sum"].strip()})],
    ),
    _pattern(
        rf"(?:summari[sz]e|sum\s+up|give\s+me\s+a\s+summary\s+of)\s+(?:the\s+page\s+(?:at\s+)?)?{_URL}",
        _summary,
    ),
    _pattern(
        rf"(?:fetch|get|read|open|load|download)\s+(?:the\s+page\s+(?:at\s+)?)?{_URL}"
        r"\s+and\s+(?:summari[sz]e|sum\s+up)(?:\s+it)?",
        _summary,
    ),
    _pattern(
        rf"(?:fetch|get|read|open|load|download)\s+(?:the\s+page\s+(?:at\s+)?)?{_URL}",
        lambda said: [("web_fetch", f"Read {said['url'][:150]}", {"url": said["url"]})],
    ),
)


def plan_by_patterns(objective: str, *, tools: Collection[str]) -> Decision | None:
    """One task after another, in the order in which they are asked for; None if that is unclear."""
    if len(objective) > _MOST:
        return None
    lines = "\n".join(" ".join(line.split()) for line in objective.splitlines())
    made = [_made(part) for part in _parts(_BETWEEN, lines)]
    calls = [call for each in made if each for call in each]
    if not calls or None in made or any(tool not in tools for tool, _, _ in calls):
        return None
    tasks: list[Task] = []
    for tool, title, arguments in calls:
        before = tasks[-1].id if tasks else ""
        number = 1 + sum(task.tool == tool for task in tasks)
        tasks.append(
            Task(
                id=tool if number == 1 else f"{tool}_{number}",
                title=title,
                tool=tool,
                arguments={name: _after(before, value) for name, value in arguments.items()},
                needs=(before,) if before else (),
            )
        )
    return Decision(tasks=tuple(tasks))


def _parts(between: re.Pattern[str], text: str) -> list[str]:
    parts = (_LEADING.sub("", part.strip()) for part in between.split(text))
    return [part for part in parts if part]


def _made(part: str) -> Made | None:
    whole = _fitting(part)
    if whole is not None:
        return whole
    made = [_fitting(each) for each in _parts(_AND, part)]
    return None if None in made else [call for each in made if each for call in each]


def _fitting(part: str) -> Made | None:
    for pattern in PATTERNS:
        found = pattern.form.fullmatch(part)
        if found:
            return pattern.calls(found.groupdict())
    return None


def _after(before: str, value: JsonValue) -> JsonValue:
    if isinstance(value, str) and value.startswith("${}"):
        return f"${{{before}{value.removeprefix('${}')}}}"
    return value
