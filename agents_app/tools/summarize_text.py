"""The sentences that say most of what a text says, taken from it as they are.

After H. P. Luhn, "The Automatic Creation of Literature Abstracts" (1958): words that a text uses
often tell what it is about, and sentences with many of them, close together, stand for it.
"""

import re
from collections import Counter
from typing import Annotated, Final

from pydantic import Field

from agents_app.core.tools import tool

_MOST_READ: Final = 200_000
_SENTENCE: Final = re.compile(r"[^.!?\n]+(?:[.!?]+(?=\s|$)|\n|$)")
_WORD: Final = re.compile(r"[^\W\d_]{4,}")
# Of a longer one, such as a table without stops, the beginning is shown.
_LONGEST: Final = 600
# Words that tell nothing of what a text is about.
_COMMON: Final = frozenset(
    """about after also been before being between both could does doing down during each from
    further have having here into itself just more most only other over same should some such
    than that their them then there these they this those through under until very were what
    when where which while will with would your""".split()  # noqa: SIM905 - to be read as words
)


@tool(is_instant=True)
def summarize_text(
    text: Annotated[str, Field(max_length=1_000_000)],
    sentences: Annotated[int, Field(ge=1, le=20)] = 3,
) -> dict[str, str | int]:
    """Give the most telling sentences of a text, in their order, without a model."""
    found = [each.strip() for each in _SENTENCE.findall(text[:_MOST_READ])]
    found = [each for each in found if _WORD.search(each)]
    told = [_words(each) for each in found]
    often = Counter(word for words in told for word in words)
    ranked = sorted(range(len(found)), key=lambda at: (-_weight(told[at], often), at))
    chosen = sorted(ranked[:sentences])
    return {"summary": " ".join(found[at][:_LONGEST] for at in chosen), "sentences": len(found)}


def _words(sentence: str) -> list[str]:
    words = (word.lower() for word in _WORD.findall(sentence))
    return [word for word in words if word not in _COMMON]


def _weight(words: list[str], often: Counter[str]) -> float:
    """How much a sentence says; longer ones have to say more."""
    return sum(often[word] for word in set(words)) / (len(words) + 5)
