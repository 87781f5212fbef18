import pytest

from orchestrator.core.schema import (
    Nowhere,
    Place,
    follow,
    may_fit,
    value_problems,
    with_defaults,
)

INPUTS = {
    "type": "object",
    "required": ["topic"],
    "properties": {
        "topic": {"type": "string", "maxLength": 5},
        "tags": {"type": "array", "items": {"type": "string"}},
        "tone": {"type": "string", "default": "dry"},
        "open": {"type": "object"},
        "maybe": {"type": ["object", "null"], "properties": {"x": {}}, "required": ["x"]},
        "same": {"$ref": "#/properties/tags"},
    },
}


def test_missing_property_is_reported_at_its_own_place() -> None:
    (problem,) = value_problems({}, INPUTS)

    assert (problem.loc, problem.code) == ("/input/topic", "required")
    assert problem.message == "topic is required"


@pytest.mark.parametrize("name", ["it's", 'say "it\'s"', "a\nb", "plain' is a required property"])
def test_missing_property_with_quotes_is_named_as_it_is(name: str) -> None:
    (problem,) = value_problems({}, {"required": [name]})

    assert problem.message == f"{name} is required"


def test_value_that_takes_too_long_to_check_is_a_problem() -> None:
    schema = {"anyOf": [{"properties": {"a": {"$ref": "#"}}, "required": ["b"]}] * 2}
    value: dict[str, object] = {}
    for _ in range(40):
        value = {"a": value}

    problems = value_problems(value, schema)

    assert [(problem.loc, problem.code) for problem in problems] == [("/input", "too_costly")]
    assert "simplify the schema" in problems[0].message


def test_every_problem_of_a_value_is_reported() -> None:
    found = value_problems({"topic": "too long", "tags": [1, "a", 2]}, INPUTS)

    assert {(p.loc, p.code) for p in found} == {
        ("/input/topic", "maxLength"),
        ("/input/tags/0", "type"),
        ("/input/tags/2", "type"),
    }


def test_defaults_fill_objects_that_are_there() -> None:
    inner = {"type": "object", "properties": {"x": {"default": 1}}}
    schema = {"properties": {"given": inner, "left_out": inner}}

    assert with_defaults({"given": {}}, schema) == {"given": {"x": 1}}


def test_defaults_fill_what_is_left_out_and_leave_the_original() -> None:
    given = {"topic": "tea"}

    assert with_defaults(given, INPUTS) == {"topic": "tea", "tone": "dry"}
    assert given == {"topic": "tea"}


@pytest.mark.parametrize(
    ("path", "schema", "may_be_missing"),
    [
        ("topic", {"type": "string", "maxLength": 5}, False),
        ("tone", {"type": "string", "default": "dry"}, False),
        ("tags.0", {"type": "string"}, True),
        ("same.0", {"type": "string"}, True),
        ("open.anything.at.all", None, False),
        ("maybe.x", {}, True),
    ],
)
def test_path_is_followed_into_a_schema(path: str, schema: object, may_be_missing: bool) -> None:
    place = follow(INPUTS, path.split("."), root="input", has_defaults=True)

    assert place == Place(schema=schema, may_be_missing=may_be_missing)


def test_default_makes_nothing_certain_where_nobody_fills_it_in() -> None:
    assert follow(INPUTS, ["tone"], root="steps.a.output").may_be_missing


@pytest.mark.parametrize("path", ["topik", "topic.x", "tags.first"])
def test_path_that_a_schema_rules_out_leads_nowhere(path: str) -> None:
    assert isinstance(follow(INPUTS, path.split("."), root="input"), Nowhere)


def test_catastrophic_pattern_answers_at_once() -> None:
    schema = {"type": "string", "pattern": "^(a+)+$"}

    (problem,) = value_problems("a" * 50_000 + "b", schema, at="/x")

    assert problem.code == "pattern"
    assert len(problem.message) < 400


def test_schema_that_turns_in_a_circle_is_a_problem() -> None:
    (problem,) = value_problems(1, {"$ref": "#"})

    assert problem.code == "too_deep"


def test_types_fit_where_some_value_could() -> None:
    assert may_fit({"type": "number"}, {"type": "integer"})
    assert may_fit(None, {"type": "string"})
    assert may_fit({"type": ["string", "null"]}, {"enum": ["a"]})
    assert not may_fit({"type": "string"}, {"type": "object"})
