"""What a report lists: one thing that is wrong, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice

MAX_PROBLEMS = 500


@dataclass(frozen=True, slots=True)
class Problem:
    """`loc` is a JSON pointer into the document, except that a step stands under its name."""

    loc: str
    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.loc or '/'}: {self.message}"


def limited(problems: Iterable[Problem]) -> list[Problem]:
    """The first 500. A lazy source is not asked for more, so that nonsense costs no more either."""
    found = list(islice(problems, MAX_PROBLEMS + 1))
    if len(found) > MAX_PROBLEMS:
        message = f"There are more than {MAX_PROBLEMS} problems; the others are not shown"
        found[-1] = Problem("", "too_many_problems", message)
    return found


def pointer(*parts: str | int) -> str:
    joined = "/".join(map(str, parts))
    if "~" not in joined and joined.count("/") == len(parts) - 1:
        return "/" + joined if parts else ""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message: the known name that was probably meant, or nothing."""
    # Comparing with thousands of names takes longer than everything else together.
    others = [each for each in islice(known, 1_000) if each != name]
    close = get_close_matches(name, others, n=1)
    return f"; did you mean `{close[0]}`?" if close else ""
