"""What an agent's steps look like to those who examine and compile them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.additions import Fragment, check_places
from orchestrator.core.errors import AddedStepsError
from orchestrator.core.parsing import parse, spec_from_mapping
from orchestrator.core.places import Scope, surroundings_of
from orchestrator.core.plan import compile_plan
from orchestrator.core.validation import Catalog, examine

PROMPT = {"type": "prompt", "provider": "local", "model": "m", "prompt": "${steps.plan.output}"}
CATALOG = Catalog(providers={"local": True})
HEADER = {"strategy": "sequential", "failure": {"mode": "partial"}, "output": "left out"}


def fragment(steps: object, output: object = None) -> Fragment:
    return Fragment(by="plan", header=HEADER, steps=steps, output=output)  # type: ignore[arg-type]


def test_steps_inherit_what_concerns_how_they_run() -> None:
    written = fragment({"a": {"agent": PROMPT, "needs": ["plan"]}}, "${steps.a.output}").alone()

    plan = compile_plan(spec_from_mapping(written), {})

    assert (plan.strategy, plan.failure.mode) == ("sequential", "partial")
    assert plan.step("a").needs == ()
    assert plan.step("a").reads == ("plan",)
    assert plan.output == "${steps.a.output}"


@pytest.mark.parametrize("steps", [{"a": {"agent": PROMPT}}, [{"name": "a", "agent": PROMPT}]])
def test_steps_may_read_who_has_added_them_without_needing_it(steps: object) -> None:
    assert examine(fragment(steps).as_workflow(), CATALOG).can_publish


def test_places_of_problems_are_those_of_what_was_given() -> None:
    report = examine(fragment([{"name": "a", "agent": PROMPT}, {"x": 1}]).as_workflow(), CATALOG)

    assert {problem.loc.split("/")[2] for problem in report.problems} == {"1"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["a", "plan", "name", "needs", "agent", "loop", "steps", "map"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(steps=JSON, output=JSON)
def test_whatever_an_agent_gives_is_examined_and_never_raises(
    steps: object, output: object
) -> None:
    wanted = fragment(steps, output)

    report = examine(wanted.as_workflow(), CATALOG)
    parse(wanted.alone())

    assert report.can_publish or report.problems or report.unsupported


def test_names_that_would_grow_too_long_below_each_other_are_refused() -> None:
    plan = compile_plan(spec_from_mapping(fragment({"a" * 63: {"agent": PROMPT}}).alone()), {})

    check_places("plan", plan)
    with pytest.raises(AddedStepsError, match="grow too long"):
        check_places("x" * 350, plan)


def test_scope_of_an_added_step_knows_whose_it_is() -> None:
    outer = spec_from_mapping(
        {"name": "x", "steps": {"plan": {"agent": PROMPT, "map": {"over": "${input.l}"}}}}
    )
    body = compile_plan(spec_from_mapping(fragment({"a": {"agent": PROMPT}}).alone()), {})

    scope = Scope.of(compile_plan(outer, {}), "plan[3].a", lambda _: body)

    assert scope.places(["a", "plan"]) == ["plan[3].a", "plan[3]"]
    assert scope.around.prefix == surroundings_of("plan[3].a").prefix == "plan[3]."
    assert surroundings_of("plan[3].a").variables({"plan[3]": 1})["steps"] == {
        "plan": {"output": 1}
    }


@pytest.mark.parametrize(
    ("place", "prefix", "item"),
    [
        ("write", "", None),
        ("section[3]", "", None),
        ("polish[1].write", "polish[1].", None),
        ("polish[3][1].write", "polish[3][1].", ("polish[3]", 3)),
        ("polish[3][1].each[7]", "polish[3][1].", ("polish[3]", 3)),
        ("a[3][1].b[0].write", "a[3][1].b[0].", ("a[3]", 3)),
        ("a[3][1].b[5][0].write", "a[3][1].b[5][0].", ("a[3][1].b[5]", 5)),
        ("plan.research", "plan.", None),
        ("a[3][1].plan.research", "a[3][1].plan.", ("a[3]", 3)),
    ],
)
def test_place_tells_what_is_around_it(
    place: str, prefix: str, item: tuple[str, int] | None
) -> None:
    around = surroundings_of(place)

    assert (around.prefix, around.item) == (prefix, item)
