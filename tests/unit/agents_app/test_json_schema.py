import time
from contextlib import suppress
from itertools import islice

import pytest

from agents_app.core.errors import UnusableSchemaError
from agents_app.core.json_schema import _known_fault, misfits, pointer_of, schema_fault

DRAFT = "https://json-schema.org/draft/2020-12/schema"
EVIL = "^(a+)+$"
PREY = "a" * 40 + "!"
USABLE = {
    "type": "object",
    "required": ["topic"],
    "properties": {"topic": {"type": "string", "maxLength": 5, "pattern": "^[a-z]+$"}},
}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "objec"},
        {"properties": {"a": 3}},
        {"required": ["a", "a"]},
        {"$ref": "https://example.com/schema.json"},
        {"$dynamicRef": "https://example.com/schema.json"},
        {"properties": {"a": {"pattern": "(?=a)b"}}},
        {"properties": {"a": {"pattern": r"(a)\1"}}},
        {"allOf": [{"pattern": "a{1000}{1000}"}]},
        {"patternProperties": {"a": {}}},
        {"unevaluatedProperties": False},
        {"contains": {"unevaluatedItems": False}},
        {"$defs": {"properties": {"patternProperties": {"a": {}}}}},
        {"items": {"type": "string", "minLength": -1}},
    ],
)
def test_unusable_schema_has_a_fault(schema):
    assert schema_fault(schema)


@pytest.mark.parametrize(
    "schema",
    [
        USABLE,
        {"type": "object", "properties": {"a": {"type": "string"}}},
        {"properties": {"patternProperties": {"type": "object"}, "$ref": {"type": "string"}}},
        {"enum": [{"pattern": "(?=a)b"}], "default": {"patternProperties": {}}},
        {"$schema": DRAFT, "$defs": {"a": {"minimum": 1}}, "$ref": "#/$defs/a"},
    ],
)
def test_usable_schema_has_no_fault(schema):
    assert schema_fault(schema) is None


def test_fault_names_its_place():
    assert schema_fault({"properties": {"a": {"type": "text"}}}).startswith("/properties/a/type:")


def test_schema_without_a_bottom_has_a_fault():
    schema: dict = {}
    for _ in range(100_000):
        schema = {"not": schema}

    assert schema_fault(schema) == "nested too deeply"


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        (PREY, {"pattern": EVIL}),
        ({"a": PREY}, {"properties": {"a": {"$schema": DRAFT, "pattern": EVIL}}}),
        ([PREY], {"$schema": DRAFT, "pattern": EVIL, "items": {"$ref": "#"}}),
        (
            [PREY],
            {"items": {"$schema": "http://json-schema.org/draft-04/schema#", "pattern": EVIL}},
        ),
    ],
    ids=["plain", "below a dialect", "through a reference", "below an older dialect"],
)
def test_catastrophic_pattern_answers_at_once(value, schema):
    started = time.monotonic()

    (misfit,) = misfits(value, schema)

    assert misfit.validator == "pattern"
    assert time.monotonic() - started < 1


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"$ref": "http://127.0.0.1:9/schema.json"}, "unresolvable_reference"),
        ({"$ref": "#/nowhere"}, "unresolvable_reference"),
        ({"$ref": "#nowhere", "$defs": {"a": {"$schema": "x"}}}, "unresolvable_reference"),
        ({"$ref": "#"}, "too_deep"),
        ({"properties": {"aa!": {"pattern": "(?=a)"}}}, "unsupported"),
        ({"patternProperties": {EVIL: {}}}, "unsupported"),
        ({"additionalProperties": False, "patternProperties": {EVIL: {}}}, "unsupported"),
        ({"$ref": "#/enum/0", "enum": [{"patternProperties": {EVIL: {}}}]}, "unsupported"),
        (
            {"unevaluatedProperties": False, "allOf": [{"patternProperties": {EVIL: {}}}]},
            "unsupported",
        ),
    ],
)
def test_schema_that_cannot_be_applied_says_why(schema, reason):
    with pytest.raises(UnusableSchemaError) as caught:
        list(misfits({"aa!": "x"}, schema))

    assert caught.value.reason == reason


def test_misfits_are_found_as_they_are_asked_for():
    found = list(islice(misfits([None] * 100_000, {"items": {"type": "string"}}), 2))

    assert [pointer_of(error) for error in found] == ["/0", "/1"]


def doubling(times: int, reference: str = "#/$defs/a{}") -> dict:
    """A few lines that say the same thing 2 ** times."""
    defs: dict = {"a0": {"type": "object", "$anchor": "a0"}}
    for number in range(1, times + 1):
        twice = [{"$ref": reference.format(number - 1)}] * 2
        defs[f"a{number}"] = {"allOf": twice, "$anchor": f"a{number}"}
    return {"$defs": defs, "$ref": reference.format(times)}


def nested(times: int, leaf: object = 1) -> object:
    for _ in range(times):
        leaf = {"a": leaf}
    return leaf


def branching(keyword: str) -> dict:
    """Looks twice at each level of the value, and from there twice at each below."""
    twice = [{"properties": {"a": {"$ref": "#"}}}] * 2
    return {"type": "object", keyword: twice}


@pytest.mark.parametrize("reference", ["#/$defs/a{}", "#a{}"])
def test_schema_that_multiplies_by_references_names_the_place(reference):
    fault = schema_fault(doubling(30, reference))

    assert "more than 10,000 parts" in fault
    assert "refer less often" in fault
    assert schema_fault(doubling(8, reference)) is None


def test_place_of_what_is_too_large_is_the_smallest_that_is():
    assert schema_fault(doubling(30)).startswith("/$defs/a11/allOf:")


@pytest.mark.parametrize(
    "schema",
    [
        {"$defs": {"tree": {"properties": {"next": {"$ref": "#/$defs/tree"}}}}, "$ref": "#"},
        {"anyOf": [{"$ref": "#/anyOf/1"}, {"$ref": "#/anyOf/0"}]},
        {"properties": {"a%b~/": {}}, "$ref": "#/properties/a%25b~0~1"},
    ],
)
def test_circles_are_counted_once(schema):
    assert schema_fault(schema) is None


@pytest.mark.parametrize(
    ("schema", "place", "target"),
    [
        ({"$ref": "#/nowhere"}, "/$ref", "#/nowhere"),
        ({"properties": {"a/b": {"$ref": "#nowhere"}}}, "/properties/a~1b/$ref", "#nowhere"),
        ({"allOf": [{"$ref": "#/allOf/7"}]}, "/allOf/0/$ref", "#/allOf/7"),
        ({"allOf": [{"$ref": "#/allOf/x"}]}, "/allOf/0/$ref", "#/allOf/x"),
        ({"$dynamicRef": "#there", "$anchor": "here"}, "/$dynamicRef", "#there"),
        ({"$ref": "#/title", "title": "no schema"}, "/$ref", "#/title"),
        ({"$ref": "#/required", "required": []}, "/$ref", "#/required"),
        (
            {"properties": {"a": {"$id": "inner", "$ref": "#/$defs/a"}}, "$defs": {"a": {}}},
            "/properties/a/$ref",
            "#/$defs/a",
        ),
    ],
)
def test_reference_to_no_schema_is_told_with_its_place(schema, place, target):
    fault = schema_fault(schema)

    assert fault.startswith(f"{place}: `{target}` leads to no schema")
    with pytest.raises(UnusableSchemaError):
        list(misfits({"a": 1, "a/b": 1}, schema))


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/a", "$defs": {"a": True}},
        {"items": {"$ref": "#a"}, "$defs": {"b": {"$anchor": "a"}}},
        {"properties": {"a": {"$id": "inner", "$ref": "#/$defs/a", "$defs": {"a": {}}}}},
        {"$id": "https://example.org/a.json", "$ref": "#/$defs/a", "$defs": {"a": {}}},
        {"default": {"$ref": "#/nowhere"}, "properties": {"$ref": {"minimum": 1}}},
    ],
)
def test_reference_to_a_schema_has_no_fault(schema):
    assert schema_fault(schema) is None
    assert list(misfits({"a": 1}, schema)) == []


def test_address_of_a_schema_that_is_none_is_a_fault():
    schema = {"$id": "http://[", "properties": {"a": {"$id": "inner"}}}

    assert schema_fault(schema) == "an `$id` is no address"
    with pytest.raises(UnusableSchemaError):
        list(misfits({"a": 1}, schema))


MANY = 50_000
HOSTILE = {
    "references": (doubling(30), {}),
    "allOf over a deep value": (branching("allOf"), nested(40)),
    "anyOf over a deep value": (branching("anyOf"), nested(40)),
    "oneOf over a deep value": (branching("oneOf"), nested(40, {})),
    "unique again and again": ({"allOf": [{"uniqueItems": True}] * 1_000}, [{}] * MANY),
    "values quoted": ({"anyOf": [{"type": "integer"}] * 5_000}, "x" * 5_000_000),
    "enum of lists": (
        {"items": {"enum": [[0, n] for n in range(MANY)]}},
        [[0, -n] for n in range(1, MANY)],
    ),
    "all of them required": ({"items": {"required": [str(n) for n in range(MANY)]}}, [{}] * MANY),
    "many patterns": (
        {"items": {"allOf": [{"pattern": rf"\w{{{n}}}!"} for n in range(20, 300)]}},
        ["a" * 40] * MANY,
    ),
    "anchors": (
        {"$defs": {f"d{n}": {"$anchor": f"n{n}"} for n in range(2_000)}, "items": {"$ref": "#n9"}},
        [1] * MANY,
    ),
}


@pytest.mark.parametrize(("schema", "value"), HOSTILE.values(), ids=HOSTILE.keys())
def test_work_without_measure_is_given_up(schema, value):
    started = time.thread_time()

    with pytest.raises(UnusableSchemaError) as caught:
        list(misfits(value, schema))

    assert caught.value.reason == "too_costly"
    # It takes two; without the meter, hours.
    assert time.thread_time() - started < 15


def test_many_rows_of_a_plain_schema_are_checked():
    fields = {name: {"type": "string", "maxLength": 9} for name in "abcdef"}
    schema = {"items": {"required": ["a"], "properties": fields, "additionalProperties": False}}

    assert list(misfits([dict.fromkeys("abcdef", "x")] * 5_000, schema)) == []


@pytest.mark.parametrize(
    ("items", "are_unique"),
    [
        ([1, 1.0], False),
        ([1, True], True),
        ([0, False, None, ""], True),
        ([{"a": 1, "b": 2}, {"b": 2, "a": 1}], False),
        ([[1, [2]], [1, [2.0]]], False),
        (["1", 1], True),
        ([number * (2**61 - 1) for number in range(20_000)], True),
    ],
)
def test_unique_items_are_told_apart_as_json_does(items, are_unique):
    assert (list(misfits(items, {"uniqueItems": True})) == []) is are_unique
    assert list(misfits(items[0], {"enum": items})) == []
    assert list(misfits(items[0], {"const": items[0]})) == []


@pytest.mark.parametrize(("value", "option"), [(True, 1), (1, True), ("1", 1), ([], {})])
def test_values_of_another_type_are_no_option(value, option):
    assert [error.validator for error in misfits(value, {"enum": [option]})] == ["enum"]
    assert [error.validator for error in misfits(value, {"const": option})] == ["const"]


def test_place_where_nothing_may_stand_is_named():
    (misfit,) = misfits({"old": "x" * 1_000}, {"properties": {"old": False}})

    assert (pointer_of(misfit), misfit.message) == ("/old", "nothing may stand here")
    assert list(misfits(["a"], {"contains": False}))


def test_message_quotes_a_large_value_in_part():
    (misfit,) = misfits("x" * 100_000, {"anyOf": [{"type": "integer"}, {"maxLength": 3}]})

    assert len(misfit.message) <= 200
    assert all(len(error.message) <= 200 for error in misfit.context)


@pytest.mark.parametrize("value", [10**400, "\ud800", "\x00"])
def test_values_at_the_edge_of_json_never_raise_anything_else(value):
    with suppress(UnusableSchemaError):
        list(misfits(value, {"multipleOf": 0.1, "pattern": "a", "uniqueItems": True}))


def test_patterns_are_read_as_the_standard_reads_them():
    schema = {"pattern": r"^\u00e9\d$"}

    assert schema_fault(schema) is None
    assert list(misfits("\u00e97", schema)) == []
    assert list(misfits("\u00e9\u0663", schema))


def test_checks_that_take_turns_keep_their_own_meters():
    one, two = (misfits([None] * 9, {"items": {"type": "string"}}) for _ in range(2))

    assert sum(1 for pair in zip(one, two, strict=True) for _ in pair) == 18


def test_large_schemas_are_not_kept_in_memory():
    _known_fault.cache_clear()

    schema_fault({"minimum": 1})
    schema_fault({"title": "x" * 100_000})

    assert _known_fault.cache_info().currsize == 1
