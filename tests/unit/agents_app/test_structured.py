import time

import pytest

from agents_app.core.errors import AgentInvalidError, OutputInvalidError
from agents_app.core.structured import check_output, parse_output

EVIL = "^(a+)+$"
SCHEMA = {
    "type": "object",
    "required": ["sections"],
    "properties": {"sections": {"type": "array", "items": {"type": "string"}}},
}


def test_an_answer_that_fits_is_parsed():
    assert parse_output('{"sections": ["a"]}', SCHEMA) == {"sections": ["a"]}


def test_a_fence_around_the_whole_answer_is_taken_off():
    assert parse_output('```json\n{"sections": []}\n```\n', SCHEMA) == {"sections": []}


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('{"sections": ["a", 2]}', "/sections/1"),
        ("{}", ""),
        ("Sure!", ""),
        ('Sure! {"sections": [2]}', "/sections/0"),
    ],
)
def test_a_misfit_names_its_place(text, path):
    with pytest.raises(OutputInvalidError) as caught:
        parse_output(text, SCHEMA)

    assert caught.value.path == path


@pytest.mark.parametrize(
    "text",
    [
        'Sure! {"sections": ["a"]} Anything else?',
        'First [1] I thought of {"sections": [2]}.\n```json\n{"sections": ["a"]}\n```\nDone.',
        '{"sections": ["b"]} is wrong, rather {"sections": ["a"]} and not {"parts": []}',
        'He said: "{" and "[", so {"sections": ["a"]}',
    ],
)
def test_json_is_found_in_what_a_model_says_around_it(text):
    assert parse_output(text, SCHEMA) == {"sections": ["a"]}


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' * 50_000, '{"a": "' + "{" * 200_000])
def test_brackets_without_end_are_given_up_at_once(text):
    started = time.monotonic()

    with pytest.raises(OutputInvalidError):
        parse_output(text, SCHEMA)

    assert time.monotonic() - started < 1


def test_pointer_escapes_slashes_in_keys():
    with pytest.raises(OutputInvalidError) as caught:
        check_output({"a/b~": 1}, {"properties": {"a/b~": {"type": "string"}}})

    assert caught.value.path == "/a~1b~0"


def test_a_long_answer_is_not_quoted_whole():
    with pytest.raises(OutputInvalidError) as caught:
        check_output("x" * 10_000, {"type": "integer"})

    assert len(str(caught.value)) < 300


def test_references_are_never_fetched():
    with pytest.raises(AgentInvalidError, match="cannot resolve"):
        check_output(1, {"$ref": "http://127.0.0.1:9/schema.json"})


def test_a_schema_that_only_refers_to_itself_is_refused():
    with pytest.raises(AgentInvalidError, match="itself"):
        check_output(1, {"$ref": "#"})


def test_a_catastrophic_pattern_answers_at_once():
    started = time.monotonic()

    with pytest.raises(OutputInvalidError, match="does not match"):
        check_output("a" * 40 + "!", {"pattern": EVIL})

    assert time.monotonic() - started < 1


def test_a_schema_that_cannot_be_applied_is_the_agents_fault():
    with pytest.raises(AgentInvalidError, match=r"output schema: .*patternProperties"):
        check_output({"a": 1}, {"patternProperties": {EVIL: {}}})
