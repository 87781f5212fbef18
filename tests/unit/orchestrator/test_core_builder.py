import pytest

from orchestrator.core.builder import Workflow
from orchestrator.core.errors import WorkflowInvalidError
from orchestrator.core.parsing import spec_to_mapping


def needs(workflow: Workflow) -> dict[str, list[str]]:
    return {step.name: step.needs for step in workflow.spec.steps}


def test_arrows_declare_needs_for_steps_and_lists_of_steps() -> None:
    with Workflow("acme-report") as w:
        a, b, c, d = (w.step(name, agent="writer") for name in "abcd")
        a >> [b, c]
        [b, c] >> d
        a >> d

    assert needs(w) == {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c", "a"]}


def test_arrows_can_be_chained() -> None:
    with Workflow("acme-report") as w:
        a, b, c = (w.step(name, agent="writer") for name in "abc")
        a >> b >> c

    assert needs(w) == {"a": [], "b": ["a"], "c": ["b"]}


def test_steps_stand_for_their_output_in_text() -> None:
    w = Workflow("acme-report")
    a = w.step("a", agent="writer", prompt=f"On {w.input.topic}")
    b = w.step("b", agent="writer", prompt=f"{a} and {a.output.sections[0]}")
    a >> b
    w.output({"text": b})

    assert spec_to_mapping(w.spec) == {
        "muster": 1,
        "name": "acme-report",
        "output": {"text": "${steps.b.output}"},
        "steps": {
            "a": {"agent": "writer", "prompt": "On ${input.topic}"},
            "b": {
                "agent": "writer",
                "prompt": "${steps.a.output} and ${steps.a.output.sections.0}",
                "needs": ["a"],
            },
        },
    }


def test_decorated_function_needs_what_its_parameters_name() -> None:
    w = Workflow("acme-report")
    w.step("outline", agent="planner")

    @w.step(agent="writer", priority=7)
    def summary(outline, input):
        return f"Sum up {outline.title} for {input.reader}"

    step = w.spec.steps[1]
    assert step.prompt == "Sum up ${steps.outline.output.title} for ${input.reader}"
    assert (step.needs, step.priority) == (["outline"], 7)


def test_docstring_is_the_prompt_of_a_function_that_returns_nothing() -> None:
    w = Workflow("acme-report")

    @w.step(agent="writer")
    def greet():
        """Greet ${input.name}."""

    assert w.spec.steps[0].prompt == "Greet ${input.name}."


def test_parameter_that_names_no_step_is_refused() -> None:
    w = Workflow("acme-report")

    with pytest.raises(WorkflowInvalidError, match="`outline` is neither an earlier step"):

        @w.step(agent="writer")
        def summary(outline):
            return "x"


def test_mistakes_are_the_same_problems_as_everywhere() -> None:
    w = Workflow("acme-report")
    w.step("a", agent="writer", timeout="3")
    w.step("a", agent="writer")

    with pytest.raises(WorkflowInvalidError) as caught:
        w.spec  # noqa: B018

    assert {problem.code for problem in caught.value.problems} == {"duplicate_name", "duration"}


def test_fields_given_to_a_step_are_left_alone() -> None:
    shared = ["a"]
    w = Workflow("acme-report")
    a, b = w.step("a", agent="x"), w.step("b", agent="x")
    c = w.step("c", agent="x", needs=shared)
    [a, b] >> c

    assert shared == ["a"]
