from typing import Any

import pytest

from orchestrator.core.parsing import spec_from_mapping
from orchestrator.core.plan import compile_plan
from orchestrator.core.text_size import UNKNOWN, Span, View, most_bytes

WORD = {"type": "string", "maxLength": 3}


def view(step: dict[str, Any], *, inputs: Any = None, input: Any = UNKNOWN) -> View:
    agent = {"agent": {"type": "prompt"}}
    spec = spec_from_mapping({"name": "x", "steps": {"a": {**agent, **step}}})
    return View(plan=compile_plan(spec, {}), inputs=inputs, input=input)


def span(prompt: str, **known: Any) -> Span:
    found = view({"prompt": prompt}, **known)
    return found.prompt_span(found.plan.step("a"))


@pytest.mark.parametrize(
    ("schema", "bare", "quoted"),
    [
        (WORD, 12, 20),
        ({"type": "boolean"}, 5, 5),
        ({"type": ["string", "null"], "maxLength": 0}, 4, 4),
        ({"enum": ["a", "bcd", 12345]}, 5, 5),
        ({"const": 'a"b'}, 3, 6),
        ({"type": "integer", "minimum": 0, "maximum": 10**30}, 31, 31),
        ({"type": "integer"}, None, None),
        ({"type": "string"}, None, None),
        ({"type": "array", "items": WORD, "maxItems": 2}, 46, 46),
        ({"type": "array", "items": WORD}, None, None),
        ({"type": "array", "prefixItems": [{}], "items": WORD, "maxItems": 2}, None, None),
        ({"type": "object", "properties": {"k": WORD}, "additionalProperties": False}, 29, 29),
        ({"type": "object", "properties": {"k": WORD}}, None, None),
        ({"$ref": "#/somewhere"}, None, None),
        ({}, None, None),
    ],
)
def test_schema_bounds_what_fits_it(schema: Any, bare: int | None, quoted: int | None) -> None:
    assert most_bytes(schema, is_bare=True) == bare
    assert most_bytes(schema) == quoted


def test_prompt_without_variables_is_measured() -> None:
    assert span("été $${x}") == Span(10, 10)


def test_given_input_is_measured_and_another_is_bounded() -> None:
    inputs = {"type": "object", "required": ["w"], "properties": {"w": WORD}}

    assert span("<${input.w}>", inputs=inputs) == Span(2, 14)
    assert span("<${input.w}>", inputs=inputs, input={"w": "ab"}) == Span(4, 4)


def test_default_may_be_shorter_or_longer_than_the_variable() -> None:
    inputs = {"type": "object", "properties": {"w": WORD}}

    assert span("${input.w ?? 'a long default'}", inputs=inputs) == Span(0, 14)
    assert span("${input.w ?? 'a long default'}", inputs=inputs, input={}) == Span(14, 14)


def test_what_a_model_says_has_no_bound() -> None:
    assert span("${steps.b.output}") == Span(0, None)


def test_more_than_is_rendered_is_no_bound() -> None:
    inputs = {"type": "object", "properties": {"w": {"type": "string", "maxLength": 10**6}}}

    assert span("${input.w}", inputs=inputs) == Span(0, None)


def test_given_items_are_measured_one_by_one() -> None:
    step = {"prompt": "${item.w}", "map": {"over": "${input.list}"}}
    found = view(step, input={"list": [{"w": "a"}, {"w": "abc"}, {"w": "ab"}]})

    assert found.prompt_span(found.plan.step("a")) == Span(1, 3)
    assert found.most_items(found.plan.step("a")) == 3


@pytest.mark.parametrize(
    ("declared", "max_items", "most"), [(7, None, 7), (7, 3, 3), (None, 3, 3), (None, None, None)]
)
def test_items_are_bounded_by_the_map_and_by_the_list(
    declared: int | None, max_items: int | None, most: int | None
) -> None:
    listed = {"type": "array", **({"maxItems": declared} if declared else {})}
    over = {"over": "${input.list}", **({"max_items": max_items} if max_items else {})}
    found = view({"map": over}, inputs={"type": "object", "properties": {"list": listed}})

    assert found.most_items(found.plan.step("a")) == most
