import pytest

from orchestrator.core.conditions import _remembered, compile_condition
from orchestrator.core.errors import ConditionError


def holds(source: str, **outputs: object) -> bool:
    steps = {name: {"output": output} for name, output in outputs.items()}
    context = {"steps": steps, "input": {"min": 3}, "loop": {"round": 2}}
    return compile_condition(source).evaluate(context)


@pytest.mark.parametrize(
    ("source", "answer"),
    [
        ('steps.a.output.route == "polish_it"', True),
        ('steps["a"].output.score > input.min', True),
        ("steps.a.output.items.all(i, i > 1)", False),
        ("loop.round >= 2 // a remark", True),
        ('"loop.round" == steps.a.output.route', False),
        ("has(steps.a.output.missing)", False),
        ("steps.b.output == null", True),
        ("steps.a.output.score == 4.0", True),
    ],
)
def test_conditions_over_outputs(source: str, answer: bool) -> None:
    a = {"route": "polish_it", "score": 4, "items": [1, 2]}

    assert holds(source, a=a, b=None) is answer


def test_names_the_steps_that_it_reads() -> None:
    condition = compile_condition('steps.a.output == steps["b"].output && "steps.c" != input.x')

    assert condition.steps == {"a", "b"}
    assert condition.roots == {"steps", "input"}


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("1 ==", "failed"),
        ("", "failed"),
        ("(" * 200, "Nested deeper"),
        ("(", "never closed"),
        (")", "closes nothing"),
        ("[1].all(x, [2].exists(y, y == x))", "nested"),
        ("[1].map(x, x).filter(y, [y].all(z, z)) == []", "nested"),
        ("steps.a.output" + " || true" * 1_000, "characters"),
        ("steps == {}", "step's name"),
        ("steps[input.x].output", "step's name"),
        ("a ` b", "is not CEL"),
        ("'open", "is not CEL"),
    ],
)
def test_condition_that_may_not_run_is_refused(source: str, word: str) -> None:
    with pytest.raises(ConditionError, match=word):
        compile_condition(source)


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("steps.a.output.score", "gives a int"),
        ("steps.a.output.gone == 1", r"there is no `gone`; ask with `has"),
        ("steps.zz.output == 1", "zz"),
        ("1 / 0 == 1", "division"),
        ("steps.a.output.keys() == []", "keys"),
        ("steps.a.output.score + 'x' == ''", "overload"),
    ],
)
def test_error_while_evaluating_says_why(source: str, word: str) -> None:
    with pytest.raises(ConditionError, match=word):
        holds(source, a={"score": 1})


def test_input_over_one_megabyte_is_refused() -> None:
    with pytest.raises(ConditionError, match="1,000,000"):
        holds("steps.a.output == ''", a="x" * 1_000_001)


def test_missing_value_can_be_asked_for_as_the_error_says() -> None:
    assert not holds("has(steps.a.output.gone) && steps.a.output.gone == 1", a={})


def test_only_what_is_read_counts_against_the_limit() -> None:
    assert holds("steps.a.output == 1", a=1, b="x" * 2_000_000)


def test_comprehension_that_compares_all_with_all_is_refused() -> None:
    with pytest.raises(ConditionError, match="too long"):
        holds("steps.a.output.all(x, x in steps.a.output)", a=list(range(100_000)))


def test_long_conditions_do_not_stay_in_memory() -> None:
    _remembered.cache_clear()

    compile_condition("input.min > 1")
    compile_condition("input.min > " + "1 + " * 200 + "1")

    assert _remembered.cache_info().currsize == 1
