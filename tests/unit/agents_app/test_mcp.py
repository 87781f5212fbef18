from typing import Any

import pytest

from agents_app.core.mcp import (
    MOST_TOOLS,
    Listing,
    Offer,
    changes_between,
    checked_arguments,
    listing_of,
    tool_name,
)

OBJECT: dict[str, Any] = {"type": "object"}


def offer(name: str, schema: Any = None, description: str = "Does it.") -> Offer:
    schema = OBJECT if schema is None else schema
    return Offer(name=name, description=description, schema=schema, is_repeatable=False)


def listed(*offers: Offer) -> Listing:
    return listing_of("srv", offers)


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


@pytest.mark.parametrize(
    ("remote", "name"),
    [("add", "srv__add"), ("a.b/c d", "srv__a_b_c_d"), ("größe", "srv__gr__e")],
)
def test_names_are_those_that_providers_take(remote: str, name: str) -> None:
    assert tool_name("srv", remote) == name


def test_of_two_that_become_one_name_the_unchanged_stays() -> None:
    listing = listed(offer("a b"), offer("a_b"), offer("a.b"))

    assert [tool.remote for tool in listing.tools] == ["a_b"]
    assert len(listing.left_out) == 2


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"type": "array"}, "no JSON"),
        ({"type": "object", "properties": {"a": {"$ref": "https://evil/s"}}}, "leads elsewhere"),
        ({"type": "object", "properties": {"a": {"pattern": "(?=x)"}}}, "not supported"),
        ({"type": "object", "properties": 5}, "/properties"),
        (nested(5_000), "nested too deeply"),
        ({"type": "object", "description": "x" * 20_000}, "bytes"),
    ],
)
def test_schema_that_cannot_be_used_leaves_its_tool_out(schema: Any, told: str) -> None:
    listing = listed(offer("bad", schema), offer("good"))

    assert [tool.remote for tool in listing.tools] == ["good"]
    assert told in listing.left_out[0]


def test_more_tools_than_are_taken_are_told() -> None:
    listing = listed(*(offer(f"t{number:03}") for number in range(MOST_TOOLS + 2)))

    assert len(listing.tools) == MOST_TOOLS
    assert len(listing.left_out) == 2


def test_texts_lose_what_nobody_sees_and_what_is_too_long() -> None:
    hidden = {"type": "object", "properties": {"a": {"description": "x\u200by\U000e0041"}}}

    (tool,) = listed(offer("t", hidden, "see\u202e " + "x" * 3_000)).tools

    assert tool.parameters["properties"]["a"]["description"] == "xy"
    assert tool.description.startswith("see x")
    assert len(tool.description) < 2_010


def test_hidden_characters_in_a_name_leave_its_tool_out() -> None:
    assert listed(offer("a\u200bdd")).tools == ()


def test_changes_name_what_came_went_and_is_told_differently() -> None:
    before = listed(offer("one"), offer("two")).tools
    after = listed(offer("one", description="Other."), offer("three")).tools

    assert changes_between(before, after) == {
        "added": ["three"],
        "removed": ["two"],
        "changed": ["one"],
    }
    assert changes_between(after, after) == {}


@pytest.mark.parametrize("reference", ["#/nowhere", "#/properties/a"])
def test_schema_that_cannot_be_applied_is_told_to_who_calls(reference: str) -> None:
    schema = {"type": "object", "properties": {"a": {"$ref": reference}}}

    with pytest.raises(ValueError, match="cannot be applied"):
        checked_arguments({"a": 1}, schema)
