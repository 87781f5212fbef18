"""Sentences that stand for a text."""

import pytest

from agents_app.core.errors import ToolFailedError
from agents_app.tools.summarize_text import summarize_text

TEXT = (
    "Bees find their way home by the sun. It was a Tuesday.\n"
    "Bees remember the sun and the way they flew. Somebody laughed! "
    "Without the sun, bees use the light of the sky to find the way."
)


def test_what_a_text_is_about_is_what_is_kept():
    given = summarize_text.call({"text": TEXT, "sentences": 2})

    assert given == {
        "summary": "Bees find their way home by the sun. "
        "Without the sun, bees use the light of the sky to find the way.",
        "sentences": 5,
    }


@pytest.mark.parametrize("text", ["", "...", "\n\n", "1 2 3"])
def test_text_without_words_has_no_summary(text):
    assert summarize_text.call({"text": text}) == {"summary": "", "sentences": 0}


def test_short_text_is_its_own_summary():
    assert summarize_text.call({"text": "Bees remember."})["summary"] == "Bees remember."


def test_longest_text_is_read_in_no_time():
    given = summarize_text.call({"text": "word " * 200_000})

    assert given["sentences"] == 1


def test_more_is_refused():
    with pytest.raises(ToolFailedError, match="at most 1000000"):
        summarize_text.call({"text": "x" * 1_000_001})
