"""Blots secrets out of what strangers send back, however they have written them."""

import re
from collections.abc import Callable, Iterable
from html.entities import codepoint2name
from itertools import groupby
from typing import Final

Blot = Callable[[str], str]
_BACKSLASH: Final = "\\"


def without(secrets: Iterable[str]) -> Blot:
    """What blots these out of a text: as they are, and as JSON, HTML and addresses write them."""
    patterns = [pattern for secret in secrets for pattern in (re.escape(secret), _written(secret))]
    if not patterns:
        return str
    any_of_them = re.compile("|".join(patterns), re.IGNORECASE)
    return lambda text: any_of_them.sub("(secret)", text)


def _written(secret: str) -> str:
    """A pattern for all ways to write it.

    What a character was found by is not tried in another way: that could take for ever.
    """
    runs = ((character, len(list(run))) for character, run in groupby(secret))
    return "".join(
        _backslashes(count) if character == _BACKSLASH else _character(character) * count
        for character, count in runs
    )


def _backslashes(count: int) -> str:
    escaped = (rf"(?:{way}){{{count}}}" for way in (r"\\u005c", "%5c", "&#(?:92|x5c);"))
    plain = (rf"\\{{{count * times}}}" for times in (4, 2, 1))
    return f"(?>{'|'.join((*escaped, *plain))})"


def _character(character: str) -> str:
    code = ord(character)
    ways = [
        rf"\\{{1,5}}u{code:04x}",
        rf"%(?:25){{0,2}}{code:02x}",
        rf"&(?:amp;){{0,2}}#(?:{code}|x{code:x});",
        rf"\\{{0,5}}{re.escape(character)}",
    ]
    if name := codepoint2name.get(code):
        ways.insert(0, rf"&(?:amp;){{0,2}}{name};")
    return f"(?>{'|'.join(ways)})"
