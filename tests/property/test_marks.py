"""Whatever stands between marks, it cannot end them, and is no longer than prices reckon with."""

import re

from hypothesis import given
from hypothesis import strategies as st

from agents_app.core import observations
from agents_app.core.values import text_size

PIECES = st.sampled_from(["<", "/", " ", "\n", "tool_output", "MEMORY", ">", "earlier_turns", "x"])
TEXTS = st.lists(PIECES | st.text(max_size=3), max_size=20).map("".join)


@given(TEXTS, st.sampled_from([observations.TOOL_OUTPUT, observations.MEMORY]))
def test_nothing_ends_the_marks_around_it(text: str, mark: str) -> None:
    marked = observations.delimited(text, mark=mark)

    ends = re.findall(r"<\s*/\s*(?:tool_output|memory|earlier_turns)", marked, re.IGNORECASE)
    assert ends == [f"</{mark}"]
    assert observations.harmless(observations.harmless(text)) == observations.harmless(text)


@given(TEXTS)
def test_what_is_marked_is_no_longer_than_is_reckoned(text: str) -> None:
    most = observations.MOST_GROWTH * text_size(text) + observations.FRAME_BYTES

    assert text_size(observations.delimited(text)) <= most


@given(
    st.text(max_size=30).map(lambda text: observations.delimited(text * 100)), st.integers(100, 999)
)
def test_what_is_shortened_keeps_its_marks(content: str, most: int) -> None:
    short = observations.shortened(content, most_bytes=most)

    assert text_size(short) <= most
    assert short.startswith("<tool_output>\n")
    assert short.endswith("\n</tool_output>")
