"""Texts put together from pieces that overlap, begin anew, or leave something out."""

from dataclasses import replace

import pytest

from orchestrator.core.speech import MOST_KEPT, Said, said_from_bytes, said_to_bytes

HELLO = Said(
    call_id="c", agent_run_id="a", step="s[1]", index=1, attempt=1, turn=1, offset=0, text="Hello"
)


@pytest.mark.parametrize(
    ("offset", "text", "whole", "start"),
    [
        (5, " you", "Hello you", 0),
        (0, "Hell", "Hello", 0),
        (3, "lo you", "Hello you", 0),
        (9, "later", "later", 9),
    ],
    ids=["goes on", "again", "overlaps", "with a gap"],
)
def test_pieces_join(offset: int, text: str, whole: str, start: int) -> None:
    joined = HELLO.joined(replace(HELLO, offset=offset, text=text))

    assert (joined.text, joined.offset, joined.end) == (whole, start, start + len(whole))


def test_long_text_loses_its_beginning() -> None:
    joined = HELLO.joined(replace(HELLO, offset=5, text="x" * MOST_KEPT))

    assert (len(joined.text), joined.offset) == (MOST_KEPT, 5)
    assert replace(HELLO, text="").joined(joined).text == joined.text


def test_what_is_behind_a_place_is_told_from_there() -> None:
    later = replace(HELLO, offset=10)

    assert later.behind(12).text == "llo"
    assert later.behind(3).offset == 10
    assert later.behind(99).text == ""


def test_messages_go_there_and_back() -> None:
    assert said_from_bytes(said_to_bytes(HELLO)) == HELLO


@pytest.mark.parametrize(
    "message", [b"news", b"{}", b"[1]", b"\xff", said_to_bytes(replace(HELLO, text=7))]
)
def test_anything_else_is_no_text(message: bytes) -> None:
    assert said_from_bytes(message) is None
