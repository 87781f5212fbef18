import json

import pytest

from orchestrator.core.errors import WorkflowInvalidError
from orchestrator.core.parsing import (
    agent_from_mapping,
    parse,
    spec_from_mapping,
    spec_to_mapping,
    spec_to_stored,
)
from orchestrator.core.yaml_io import load_text

EVERYTHING = """
muster: 1
name: research-report
description: Outline, gather, write and review a short report.
module: research
strategy: adaptive
max_parallel: 8
deadline: 10m
max_cost_usd: "0.50"
failure: {mode: partial, critical_priority: 8, max_failed_ratio: 0.5}
inputs:
  type: object
  required: [topic]
  properties: {topic: {type: string, maxLength: 200}}
defaults:
  provider: local
  model: smollm2
  timeout: 30s
  fallback: [{provider: anthropic, model: NAME}]
steps:
  outline:
    prompt: "Outline a report on ${input.topic}"
    agent: planner
    output_schema:
      {type: object, required: [sections], properties: {sections: {type: array}}}
  section:
    needs: [outline]
    map: {over: "${steps.outline.output.sections}", max_items: 50, parallel: 8, allow_failed: 0.2}
    agent: {type: prompt, role: executor}
    prompt: "Write the section ${item}."
    retry: {strategy: exponential, attempts: 3, base: 2s, factor: 2, cap: 60s, jitter: true}
    parameters: {temperature: 0.2, max_output_tokens: 800}
    timeout: 1h30m
    max_cost_usd: "0.05"
    priority: 5
    tools: [web_fetch]
  triage:
    needs: [section]
    agent: {type: router, routes: [polish_it, ship_it]}
    prompt: "Does it need polish? ${steps.section.output}"
  polish:
    needs: [triage]
    when: 'steps.triage.output.route == "polish_it"'
    loop:
      steps:
        write:
          agent: writer
          prompt: "Improve. Advice: ${loop.previous.judge.output.feedback ?? 'none'}"
        judge: {needs: [write], agent: {type: evaluator}}
      until: steps.judge.output.accepted
      max_rounds: 3
      on_exhausted: continue
      output: "${steps.write.output}"
  check:
    needs: [section]
    workflow: fact-check@3
    input: {text: "${steps.section.output}"}
  sign_off:
    needs: [polish, check]
    join: all
    approval:
      question: "Publish? ${steps.check.output.summary}"
      show: "${steps.polish.output ?? steps.section.output}"
      approvers: {roles: [admin], exclude_requester: true}
      form: {type: object, properties: {note: {type: string}}}
      expires: 24h
      on_expire: reject
      on_reject: skip
  cool_off: {needs: [sign_off], delay: 10m}
degrade:
  - {at: 0.7, use: {provider: local, model: smollm2}}
  - {at: 0.8, map_items: 0.5}
  - {at: 0.9, skip: optional}
  - {at: 0.95, ask: {roles: [admin], expires: 1h}}
output: "${steps.polish.output ?? steps.section.output}"
"""


def problems(data: object) -> dict[str, str]:
    return {problem.loc: problem.code for problem in parse(data).problems}


def workflow(**steps: object) -> dict[str, object]:
    return {"name": "acme-report", "steps": steps}


def test_every_construct_is_read_and_written_back_in_the_same_order() -> None:
    written = load_text(EVERYTHING)

    spec = spec_from_mapping(load_text(EVERYTHING))

    assert json.dumps(spec_to_mapping(spec)) == json.dumps(written)


def test_steps_as_a_list_are_the_same_workflow() -> None:
    spec = spec_from_mapping(load_text(EVERYTHING))

    stored = spec_to_stored(spec)

    assert [step["name"] for step in stored["steps"]][:2] == ["outline", "section"]
    assert spec_to_mapping(spec_from_mapping(stored)) == spec_to_mapping(spec)


def test_durations_know_their_seconds_and_keep_their_text() -> None:
    section = spec_from_mapping(load_text(EVERYTHING)).steps[1]

    assert section.timeout == "1h30m"
    assert section.timeout.seconds == 5400


def test_all_problems_are_reported_together_with_their_places() -> None:
    data = {
        "name": "Acme Report",
        "max_paralel": 3,
        "steps": {
            "a": {"agent": {"type": "tool", "model": "x"}, "timeout": "30"},
            "b": None,
            "c": {"agent": "x", "delay": "1s"},
            "d": {"agent": "x", "approval": None, "system": "${input.x}", "max_cost_usd": 0.1},
            "e": {"loop": {"steps": {"f": {"agent": {}}}, "until": "true", "max_rounds": 0}},
            "G": {"agent": "x"},
        },
    }

    assert problems(data) == {
        "/name": "bad_format",
        "/max_paralel": "unknown_field",
        "/steps/a/agent/model": "not_applicable",
        "/steps/a/agent/tool": "required",
        "/steps/a/timeout": "duration",
        "/steps/b": "exactly_one",
        "/steps/c": "exactly_one",
        "/steps/d/approval": "not_applicable",
        "/steps/d/system": "variable_not_allowed",
        "/steps/d/max_cost_usd": "money",
        "/steps/e/loop/steps/f/agent/type": "required",
        "/steps/e/loop/max_rounds": "greater_than_equal",
        "/steps/G/name": "bad_format",
    }


def test_misspelt_field_is_answered_with_the_right_one() -> None:
    (problem,) = parse({**workflow(a={"agent": "x"}), "max_paralel": 3}).problems

    assert "did you mean `max_parallel`?" in problem.message


def test_two_steps_of_one_name_are_refused() -> None:
    data = {"name": "x", "steps": [{"name": "a", "agent": "x"}, {"name": "a", "agent": "x"}]}

    assert problems(data) == {"/steps/1/name": "duplicate_name"}


def test_name_inside_a_mapping_of_steps_is_refused() -> None:
    assert problems(workflow(a={"agent": "x", "name": "b"})) == {"/steps/a/name": "unknown_field"}


def test_broken_step_keeps_its_name_and_needs() -> None:
    parsed = parse(workflow(a={"agent": "x"}, b={"needs": ["a"], "agent": "x", "timeout": 3}))

    assert parsed.broken == {"b"}
    assert parsed.spec is not None
    assert parsed.spec.steps[1].needs == ["a"]


def test_numbers_are_not_read_from_text() -> None:
    assert problems({**workflow(a={"agent": "x"}), "max_parallel": "8"}) == {
        "/max_parallel": "wrong_type"
    }


@pytest.mark.parametrize("text", ["0s", "30", "1m30", "1s1m", "-1s", "9999h", "٣s", ""])
def test_unreadable_duration_is_refused(text: str) -> None:
    assert problems(workflow(a={"agent": "x", "timeout": text})) == {"/steps/a/timeout": "duration"}


@pytest.mark.parametrize("amount", ["1e3", "-1", "00.5", "1,5", ".5", "NaN", 0.5])
def test_unreadable_amount_is_refused(amount: object) -> None:
    assert problems(workflow(a={"agent": "x", "max_cost_usd": amount})) == {
        "/steps/a/max_cost_usd": "money"
    }


@pytest.mark.parametrize(
    "value", [float("nan"), object(), {1: "a"}, "half \ud800", "zero \0", (1,), {"b\0": 1}]
)
def test_what_is_not_plain_json_is_refused(value: object) -> None:
    assert problems({**workflow(a={"agent": "x"}), "output": value}) == {"": "not_json"}


def test_endless_nesting_is_refused() -> None:
    deep: list[object] = []
    deep.append(deep)

    assert problems({**workflow(a={"agent": "x"}), "output": deep}) == {"": "too_deep"}


@pytest.mark.parametrize("data", [None, [], "text", 3])
def test_document_that_is_no_mapping_is_refused(data: object) -> None:
    assert problems(data) == {"": "wrong_type"}


def test_hostile_step_names_stay_inside_their_place() -> None:
    assert problems(workflow(**{"a/b~c": {"agent": "x"}})) == {"/steps/a~1b~0c/name": "bad_format"}


def test_saved_agent_is_checked_like_one_in_place() -> None:
    with pytest.raises(WorkflowInvalidError) as caught:
        agent_from_mapping({"type": "tool", "model": "x"})

    assert {problem.loc for problem in caught.value.problems} == {"/model", "/tool"}


def test_error_lists_every_problem_and_survives_rebuilding() -> None:
    with pytest.raises(WorkflowInvalidError) as caught:
        spec_from_mapping({"name": "x"})

    assert "/steps: steps is required" in str(caught.value)
    assert str(WorkflowInvalidError(*caught.value.args)) == str(caught.value)
