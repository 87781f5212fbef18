import time

import pytest

from agents_app.core.complexity import Complexity, complexity_of, signs_of

PLAN = """\
Compare the three proposals and justify which one we should take.

1. List the costs of each, for at least five years.
2. Explain the risks, and why they differ.
3. Name what must not be given up.
4. Write the summary without jargon.
"""


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "Translate to French: Good morning.",
        "Summarise this in one sentence: The parcel arrived late.",
        "Is this message spam? Answer yes or no.",
        "Give the capital of Peru, then its population.",
    ],
)
def test_small_errands_are_simple(prompt: str) -> None:
    assert complexity_of(prompt) is Complexity.SIMPLE


@pytest.mark.parametrize(
    "prompt",
    [
        "Compare these two contracts, then say which is cheaper.",
        "Debug this:\n```\nprint(1\n```",
        "Summarise: " + "words " * 1_200,
    ],
)
def test_more_than_an_errand_is_moderate(prompt: str) -> None:
    assert complexity_of(prompt) is Complexity.MODERATE


def test_many_reasoned_tasks_under_conditions_are_complex() -> None:
    signs = signs_of(PLAN)

    assert (signs.tasks, signs.reasoning, signs.conditions) == (2, 2, 1)
    assert signs.complexity is Complexity.COMPLEX


@pytest.mark.parametrize(
    ("characters", "points"), [(1_499, 0), (1_500, 1), (6_000, 2), (20_000, 3)]
)
def test_length_counts_in_three_steps(characters: int, points: int) -> None:
    assert signs_of("x" * characters).length == points


def test_system_text_counts_like_the_prompt() -> None:
    assert signs_of("Go on.", system=PLAN) == signs_of(PLAN, system="Go on.")


def test_a_word_counts_once_and_as_a_whole_word() -> None:
    assert signs_of("Why, why, WHY?").reasoning == 1
    assert signs_of("Whyever planets airplane explained").reasoning == 0


def test_the_longer_of_two_expressions_counts() -> None:
    assert signs_of("It must not. It must not.").conditions == 0
    assert signs_of("It must not, but that must.").conditions == 1


@pytest.mark.parametrize(
    "text",
    ["```py\nx\n```", "def f(x):\n    return x", "SELECT a FROM b", r"\frac{1}{2}", "a \u2264 b"],
)
def test_code_and_formulas_are_seen(text: str) -> None:
    assert signs_of(text).code == 1


@pytest.mark.parametrize("text", ["Send the import papers.", "First class service."])
def test_words_of_code_in_prose_are_not_code(text: str) -> None:
    assert signs_of(text).code == 0


def test_fields_of_the_answer_count_wherever_they_lie() -> None:
    few = {"properties": {name: {} for name in "abcd"}}
    nested = {"properties": {"rows": {"items": few}}}

    assert [signs_of("", schema=each).output for each in (None, few, nested)] == [0, 0, 1]
    assert signs_of("", schema={"properties": {str(n): {} for n in range(20)}}).output == 2


def test_every_sign_only_adds() -> None:
    assert signs_of(PLAN * 10 + "```").points >= signs_of(PLAN).points


@pytest.mark.parametrize("piece", ["- ", " " * 50, "must not ", "def ", "1.", "\n", "```"])
def test_hostile_prompts_are_looked_at_in_no_time(piece: str) -> None:
    started = time.process_time()

    signs_of(piece * 1_000_000)

    assert time.process_time() - started < 1


def test_a_schema_that_goes_down_without_end_is_left_off() -> None:
    schema: dict = {"properties": {"a": {}}}
    for _ in range(5_000):
        schema = {"properties": {"a": schema}}

    assert signs_of("", schema=schema).output >= 1
