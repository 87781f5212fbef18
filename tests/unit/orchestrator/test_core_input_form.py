from typing import Any

import pytest

from orchestrator.core.input_fields import Field, Kind
from orchestrator.core.input_form import (
    MAX_FIELDS,
    Group,
    assembled,
    defaults_of,
    fields_of,
    form_of,
    nearest,
    values_in,
)

ADDRESS = {
    "type": "object",
    "required": ["city"],
    "properties": {"city": {"type": "string", "maxLength": 80}, "zip": {"type": "string"}},
}
ORDER: dict[str, Any] = {
    "type": "object",
    "required": ["customer"],
    "properties": {
        "customer": {"type": "string", "maxLength": 80, "title": "Customer", "description": "Who."},
        "count": {"type": "integer", "default": 1},
        "tags": {"type": "array", "items": {"type": "string"}},
        "ship_to": ADDRESS,
    },
}


def form(schema: dict[str, Any]) -> Group:
    found = form_of(schema)
    assert found
    return found


def field(schema: dict[str, Any], **outer: Any) -> Field:
    (found,) = fields_of(form({"properties": {"x": schema}, **outer}))
    return found


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ({"type": "string", "maxLength": 200}, "text"),
        ({"type": "string", "maxLength": 201}, "long_text"),
        ({"type": "string"}, "long_text"),
        ({"type": "string", "format": "email"}, "text"),
        ({"type": "string", "format": "date"}, "date"),
        ({"type": "string", "format": "time"}, "time"),
        ({"type": "string", "format": "date-time"}, "date_time"),
        ({"type": ["string", "null"], "maxLength": 9}, "text"),
        ({"type": "integer"}, "integer"),
        ({"type": "number"}, "number"),
        ({"type": "boolean"}, "boolean"),
        ({"enum": ["a", 1, True]}, "choice"),
        ({"const": "a"}, "choice"),
        ({"type": "array", "items": {"type": "string"}}, "lines"),
        ({"type": "array", "items": {"enum": ["a", "b"]}}, "choices"),
        ({"$ref": "#/$defs/word"}, "text"),
        ({"type": "array", "items": {"$ref": "#/$defs/word"}}, "lines"),
        ({"type": "array", "items": {"type": "integer"}}, "json"),
        ({"type": "array"}, "json"),
        ({"type": "object"}, "json"),
        ({"type": ["string", "integer"]}, "json"),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, "json"),
        ({"enum": [{"a": 1}]}, "json"),
        ({"enum": list(range(201))}, "integer"),
        ({"type": "string", "maxLength": 9, "default": ""}, "text"),
        ({"$ref": "#/$defs/nowhere"}, "json"),
        ({"$ref": "#/properties/x"}, "json"),
        ({"type": "string", "maxLength": 9, "default": "two\nlines"}, "json"),
        ({"type": "string", "format": "date", "default": "soon"}, "json"),
        ({"type": "integer", "default": "one"}, "json"),
        (True, "json"),
        ({}, "json"),
    ],
)
def test_property_gets_the_field_that_suits_it(schema: Any, kind: str) -> None:
    assert field(schema, **{"$defs": {"word": {"type": "string", "maxLength": 9}}}).kind == kind


def test_field_tells_what_the_schema_tells() -> None:
    customer, count, *_ = fields_of(form(ORDER))

    assert (customer.label, customer.help, customer.is_required) == ("Customer", "Who.", True)
    assert (count.label, count.is_required, count.default) == ("count", False, 1)
    assert defaults_of(form(ORDER)) == {("count",): 1}


def test_object_is_a_group_as_deep_as_pages_are_readable() -> None:
    deep: dict[str, Any] = {"type": "string", "maxLength": 5}
    for _ in range(6):
        deep = {"type": "object", "properties": {"x": deep}}

    (found,) = fields_of(form(deep))

    assert (found.path, found.kind) == (("x",) * 4, Kind.JSON)


def test_object_that_contains_itself_ends() -> None:
    schema = {"properties": {"name": {"type": "string"}, "child": {"$ref": "#"}}}

    assert Kind.JSON in {found.kind for found in fields_of(form(schema))}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object"},
        {"type": "array", "properties": {"x": {}}},
        {"type": "object", "properties": {}},
        {"properties": {f"p{n}": {} for n in range(MAX_FIELDS + 1)}},
        {"$ref": "#/nowhere", "properties": {"x": {}}},
        {"properties": {f"p{n}": {"$ref": "#"} for n in range(1_000)}},
    ],
)
def test_schema_without_a_form_has_none(schema: Any) -> None:
    assert form_of(schema) is None


def test_what_is_left_empty_is_left_out_with_its_object() -> None:
    assert assembled(form(ORDER), {("customer",): "Ada"}) == {"customer": "Ada"}
    assert assembled(form(ORDER), {("ship_to", "zip"): "1"}) == {"ship_to": {"zip": "1"}}


def test_required_object_is_there_even_if_empty() -> None:
    required = {**ORDER, "required": ["ship_to"]}

    assert assembled(form(required), {}) == {"ship_to": {}}


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"customer": "Ada", "count": 3, "tags": ["a", "b"], "ship_to": {"city": "Bern"}},
        {"ship_to": {"zip": "two\nlines"}},
    ],
)
def test_input_goes_into_the_form_and_comes_out_the_same(value: Any) -> None:
    values = values_in(form(ORDER), value)

    assert values is not None
    assert assembled(form(ORDER), values) == value


@pytest.mark.parametrize(
    "value",
    [
        [],
        {"extra": 1},
        {"count": True},
        {"count": "3"},
        {"customer": ""},
        {"customer": "two\nlines"},
        {"tags": []},
        {"tags": ["a\nb"]},
        {"tags": [""]},
        {"ship_to": {}},
        {"ship_to": None},
        {"ship_to": {"city": "Bern", "more": 1}},
    ],
)
def test_input_that_the_form_would_lose_stays_out_of_it(value: Any) -> None:
    assert values_in(form(ORDER), value) is None


def test_place_is_found_in_the_field_that_holds_it() -> None:
    order = form(ORDER)

    assert nearest(order, ["tags", "0"]) == list(fields_of(order))[2]
    assert nearest(order, ["ship_to", "city"]) == list(fields_of(order))[3]
    assert nearest(order, []) is None
    assert nearest(order, ["ship_to"]) is None
