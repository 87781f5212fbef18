from orchestrator.core.output import assemble
from orchestrator.core.parsing import spec_from_mapping
from orchestrator.core.plan import Plan, compile_plan

PROMPT = {"type": "prompt", "prompt": "x"}


def plan(output: object = None) -> Plan:
    steps = {
        "a": {"agent": PROMPT},
        "b": {"needs": ["a"], "agent": PROMPT},
        "c": {"needs": ["a"], "agent": PROMPT},
    }
    declared = {} if output is None else {"output": output}
    return compile_plan(spec_from_mapping({"name": "acme", "steps": steps, **declared}), {})


def test_exit_steps_give_the_output_by_name() -> None:
    assert assemble(plan(), input={}, outputs={"b": 1}).value == {"b": 1, "c": None}


def test_single_exit_step_gives_the_output_itself() -> None:
    spec = spec_from_mapping({"name": "acme", "steps": {"a": {"agent": PROMPT}}})

    assert assemble(compile_plan(spec, {}), input={}, outputs={"a": "text"}).value == "text"


def test_declared_mapping_is_filled_in() -> None:
    declared = {"title": "On ${input.topic}", "parts": ["${steps.b.output}"]}

    output = assemble(plan(declared), input={"topic": "tea"}, outputs={"b": {"x": 1}})

    assert output.value == {"title": "On tea", "parts": [{"x": 1}]}
    assert output.problem is None


def test_what_cannot_be_filled_in_is_null_and_said() -> None:
    declared = {"b": "${steps.b.output}", "c": "${steps.c.output.title}"}

    output = assemble(plan(declared), input={}, outputs={"b": 1})

    assert output.value == {"b": 1, "c": None}
    assert "`steps.c.output.title` does not exist" in str(output.problem)
