"""What a report lists: one thing that is wrong, where, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """`loc` is a JSON pointer into the document, except that a step stands under its name."""

    loc: str
    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.loc or '/'}: {self.message}"


def pointer(*parts: str | int) -> str:
    joined = "/".join(map(str, parts))
    if "~" not in joined and joined.count("/") == len(parts) - 1:
        return "/" + joined if parts else ""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)
