import time

import pytest

from orchestrator.core.errors import SpecSyntaxError
from orchestrator.core.yaml_io import dump_text, load_text


def refused(text: str | bytes) -> SpecSyntaxError:
    with pytest.raises(SpecSyntaxError) as caught:
        load_text(text)
    return caught.value


def test_words_and_times_of_yaml_1_1_stay_text() -> None:
    document = load_text("a: on\nb: no\nc: 1:30\nd: 2026-01-01\ne: 0777\n")

    assert document == {"a": "on", "b": "no", "c": "1:30", "d": "2026-01-01", "e": 777}


def test_scalars_of_the_core_schema_are_typed() -> None:
    document = load_text("a: true\nb: ~\nc: 0o17\nd: 0xff\ne: 1e3\nf: -.5\ng: '1'\nh:\n")

    assert document == {
        "a": True,
        "b": None,
        "c": 15,
        "d": 255,
        "e": 1000.0,
        "f": -0.5,
        "g": "1",
        "h": None,
    }


@pytest.mark.parametrize(
    ("text", "line", "column", "word"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, 1, "twice"),
        ('{"a": 1,\n "a": 2}', 2, 2, "twice"),
        ("a: &x 1\n", 1, 4, "Anchors"),
        ("a: 1\nb: *x\n", 2, 4, "Aliases"),
        ("a: !!python/object 1\n", 1, 4, "Tags"),
        ("a: 1\n---\nb: 2\n", 2, 1, "one document"),
        ("a: .inf\n", 1, 4, "not a number"),
        ('{"a": NaN}', 1, 7, "not a number"),
        ("a: 1e999\n", 1, 4, "too large"),
        ("a: [1\n", 2, 1, "Not readable"),
        ("? [a]\n: 1\n", 1, 5, "plain text"),
        ("- a\n", 1, 1, "must be a mapping"),
        ("", 1, 1, "empty"),
    ],
)
def test_what_the_format_does_not_know_is_refused_with_its_place(
    text: str, line: int, column: int, word: str
) -> None:
    error = refused(text)

    assert (error.line, error.column) == (line, column)
    assert word in str(error)


@pytest.mark.parametrize("bomb", ["[" * 100_000, '{"a":' * 100_000, "- " * 100_000])
def test_depth_bomb_is_refused_at_once(bomb: str) -> None:
    started = time.monotonic()

    assert "deeper than" in str(refused(bomb))
    assert time.monotonic() - started < 2


def test_closed_json_depth_bomb_is_refused() -> None:
    assert "deeper than" in str(refused('{"a":' * 500 + "1" + "}" * 500))


def test_document_over_the_size_limit_is_refused() -> None:
    assert "5,000,000" in str(refused("a: " + "x" * 5_000_001))


def test_text_that_is_not_utf_8_is_refused() -> None:
    assert refused(b"a: 1\nb: \xff\n").line == 2


def test_number_of_thousands_of_digits_is_refused() -> None:
    assert "too long" in str(refused('{"a": ' + "9" * 5_000 + "}"))


def test_several_lines_are_written_as_a_block() -> None:
    assert dump_text({"prompt": "Line one\nLine two\n"}) == "prompt: |\n  Line one\n  Line two\n"


@pytest.mark.parametrize("text", ["on", "1:30", "0o14", "1e3", "NaN", "null", "=", "2026-01-01"])
def test_text_that_a_reader_might_retype_is_quoted(text: str) -> None:
    assert dump_text({"a": text}) == f"a: '{text}'\n"


def test_syntax_error_survives_rebuilding_from_its_arguments() -> None:
    error = refused("a: 1\na: 2\n")

    assert str(type(error)(*error.args)) == str(error)
