import tracemalloc

import pytest

from orchestrator.core.errors import (
    MissingVariableError,
    TemplateSyntaxError,
    TemplateTooLargeError,
)
from orchestrator.core.template import references, render

CONTEXT = {
    "input": {"topic": "tea", "n": 3, "none": None, "evil": "${input.n}", "my-key": "dash"},
    "steps": {"outline": {"output": {"sections": ["a", "b"], "ok": True}}},
}


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("About ${input.topic}.", "About tea."),
        ("${steps.outline.output.sections}", ["a", "b"]),
        ("${ input.n }", 3),
        ("n=${input.n}", "n=3"),
        ("${steps.outline.output.sections.1}", "b"),
        ("all: ${steps.outline.output}", 'all: {"sections": ["a", "b"], "ok": true}'),
        ("${input.my-key}", "dash"),
        ("${input.gone ?? 'it''s }'}", "it's }"),
        ("${input.gone ?? input.none ?? -1.5}", -1.5),
        ("${input.gone ?? null}", None),
        ("${input.none}", None),
        ("${input.none ?? input.topic}", "tea"),
        ("$${input.topic} and $$${input.topic}", "${input.topic} and $${input.topic}"),
        ("costs $5 {now}", "costs $5 {now}"),
        ("", ""),
    ],
)
def test_renders(template: str, value: object) -> None:
    assert render(template, CONTEXT) == value


def test_nested_values_are_rendered_and_keys_are_not() -> None:
    value = {"${input.n}": ["${input.n}", {"a": "x ${input.topic}"}, 7, None]}

    assert render(value, CONTEXT) == {"${input.n}": [3, {"a": "x tea"}, 7, None]}


def test_values_are_never_read_for_variables_again() -> None:
    assert render("got ${input.evil}", CONTEXT) == "got ${input.n}"


def test_missing_variable_is_named_with_what_exists() -> None:
    with pytest.raises(MissingVariableError) as caught:
        render("${input.topik}", CONTEXT)

    assert caught.value.path == "input.topik"
    assert "`input` offers evil, my-key, n, none, topic" in str(caught.value)


@pytest.mark.parametrize(
    "path",
    [
        "input.__class__",
        "input.topic.upper",
        "input.keys",
        "steps.outline.output.sections.append",
        "steps.outline.output.sections.-1",
        "steps.outline.output.sections.9",
        "steps.outline.output.sections.²",
        "input.topic.0",
    ],
)
def test_attributes_are_out_of_reach(path: str) -> None:
    with pytest.raises((MissingVariableError, TemplateSyntaxError)):
        render(f"${{{path}}}", CONTEXT)


@pytest.mark.parametrize(
    "template",
    [
        "${",
        "${}",
        "${input",
        "${input.a + 1}",
        "${input.a()}",
        "${input..a}",
        "${input.a ?? }",
        '${input.a ?? "x"}',
        "${input[0]}",
        "${'open}",
        "${{input.a}}",
    ],
)
def test_unreadable_variable_is_a_syntax_error(template: str) -> None:
    with pytest.raises(TemplateSyntaxError, match=r"is not a variable"):
        render(template, CONTEXT)


def test_rendered_text_has_a_size_limit() -> None:
    context = {"input": {"big": "x" * 1_000}}

    with pytest.raises(TemplateTooLargeError, match="10,000 bytes"):
        render("${input.big}" * 11, context, max_bytes=10_000)


def test_size_counts_bytes_over_all_parts() -> None:
    context = {"input": {"big": "ü" * 400}}

    with pytest.raises(TemplateTooLargeError):
        render(["${input.big}", "${input.big}"], context, max_bytes=1_000)


def test_references_walk_nested_values() -> None:
    value = {"a": ["${input.x ?? steps.s.output}"], "b": "$${input.y} ${item}"}

    assert references(value) == {"input.x", "steps.s.output", "item"}


def test_long_templates_do_not_stay_in_memory() -> None:
    tracemalloc.start()

    for number in range(100):
        references(f"{number}" + "${input.topic}" * 300)

    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert kept < 1_000_000
