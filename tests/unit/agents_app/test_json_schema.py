import time
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


def test_large_schemas_are_not_kept_in_memory():
    _known_fault.cache_clear()

    schema_fault({"minimum": 1})
    schema_fault({"title": "x" * 100_000})

    assert _known_fault.cache_info().currsize == 1
