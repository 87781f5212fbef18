import json
import tracemalloc

import pytest

from orchestrator.core.output import MAX_OUTPUT_BYTES, assemble
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


MEGABYTE = "x" * 1_000_000


@pytest.mark.parametrize(
    "outputs",
    [
        {"b": MEGABYTE * 11},
        {"b": MEGABYTE * 6, "c": {"text": MEGABYTE * 6}},
        {"b": "\x01" * 2_000_000},
    ],
    ids=["one", "two together", "its JSON alone"],
)
def test_exit_steps_that_gave_too_much_are_left_out(outputs: dict[str, object]) -> None:
    output = assemble(plan(), input={}, outputs=outputs)

    assert output.value is None
    assert "10,000,000 bytes" in str(output.problem)


@pytest.mark.parametrize("part", ["${steps.b.output}", "On ${steps.b.output}"])
def test_parts_share_one_limit(part: str) -> None:
    output = assemble(plan([part] * 5_000), input={}, outputs={"b": MEGABYTE})

    assert output.value is None
    assert "10,000,000 bytes" in str(output.problem)


def test_too_large_an_output_is_noticed_before_it_fills_the_memory() -> None:
    declared = plan(["${steps.b.output} " * 9] * 1_000)
    tracemalloc.start()

    assemble(declared, input={}, outputs={"b": MEGABYTE})

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * MAX_OUTPUT_BYTES


def test_output_just_within_the_limit_is_kept() -> None:
    text = "x" * (MAX_OUTPUT_BYTES - 100)

    output = assemble(plan({"b": "${steps.b.output}"}), input={}, outputs={"b": text})

    assert len(json.dumps(output.value)) < MAX_OUTPUT_BYTES
    assert output.problem is None
