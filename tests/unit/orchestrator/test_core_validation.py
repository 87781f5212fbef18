import time

import pytest

from agents_app.core.agent import DESCRIBED
from orchestrator.core.spec import FIELDS_OF_AGENT, AgentSpec
from orchestrator.core.validation import Catalog, examine

PROMPT = {"type": "prompt", "prompt": "x"}
CATALOG = Catalog(
    agents={"writer": {"type": "prompt", "provider": "local", "model": "smollm2"}},
    tools={
        "add": {
            "type": "object",
            "required": ["a"],
            "properties": {"a": {"type": "number"}, "b": {"type": "number"}},
        }
    },
    providers={"local": True, "acme": True, "openai": False},
    knows_model=lambda provider, model: model == "smollm2",
    workflows={"fact-check": frozenset({3})},
    batching=frozenset({"acme"}),
    default_provider="local",
)


def found(steps: dict[str, object], **fields: object) -> dict[str, str]:
    report = examine({"name": "acme-report", **fields, "steps": steps}, CATALOG)
    return {problem.loc: problem.code for problem in report.problems}


def message(steps: dict[str, object], **fields: object) -> str:
    report = examine({"name": "acme-report", **fields, "steps": steps}, CATALOG)
    return "\n".join(map(str, report.problems))


def test_sound_workflow_can_be_published() -> None:
    steps = {
        "draft": {"agent": "writer", "prompt": "On ${input.topic}"},
        "sum": {
            "needs": ["draft"],
            "agent": {"type": "tool", "tool": "add", "arguments": {"a": 1, "b": "${input.n}"}},
        },
        "all": {"needs": ["draft", "sum"], "agent": {"type": "aggregator", "mode": "collect"}},
    }
    inputs = {
        "type": "object",
        "required": ["topic", "n"],
        "properties": {"topic": {"type": "string"}, "n": {"type": "integer"}},
    }
    data = {"name": "x", "inputs": inputs, "steps": steps, "output": "${steps.all.output.draft}"}

    report = examine(data, CATALOG)

    assert report.problems == ()
    assert report.can_publish


def test_dependencies_are_checked() -> None:
    steps = {"a": {"agent": PROMPT}, "b": {"needs": ["b", "z", "a", "a"], "agent": PROMPT}}

    assert found(steps) == {
        "/steps/b/needs/0": "self_dependency",
        "/steps/b/needs/1": "unknown_dependency",
        "/steps/b/needs/3": "duplicate_dependency",
    }


def test_cycle_is_named_and_what_lies_behind_it_cannot_be_reached() -> None:
    steps = {
        "a": {"needs": ["b"], "agent": PROMPT},
        "b": {"needs": ["a"], "agent": PROMPT},
        "c": {"needs": ["b"], "agent": PROMPT},
    }

    assert "cycle" in found(steps).values()
    assert found(steps)["/steps/c"] == "unreachable"
    assert "a -> b -> a" in message(steps) or "b -> a -> b" in message(steps)


def test_two_cycles_are_both_reported() -> None:
    steps = {
        name: {"needs": [need], "agent": PROMPT}
        for name, need in {"a": "b", "b": "a", "c": "d", "d": "c"}.items()
    }

    assert list(found(steps).values()) == ["cycle", "cycle"]


def test_form_and_meaning_are_reported_together() -> None:
    steps = {"a": {"agent": PROMPT, "timeout": "3"}, "b": {"needs": ["a", "z"], "agent": "nobody"}}

    assert found(steps) == {
        "/steps/a/timeout": "duration",
        "/steps/b/needs/1": "unknown_dependency",
        "/steps/b/agent": "unknown_agent",
    }


@pytest.mark.parametrize(
    ("agent", "loc", "code"),
    [
        ("writr", "/agent", "unknown_agent"),
        ({**PROMPT, "provider": "nobody"}, "/agent/provider", "unknown_provider"),
        ({**PROMPT, "provider": "openai"}, "/agent/provider", "provider_not_configured"),
        ({**PROMPT, "provider": "local", "model": "big"}, "/agent/model", "unknown_model"),
        ({**PROMPT, "type": "react", "tools": ["ad"]}, "/agent/tools/0", "unknown_tool"),
        ({"type": "tool", "tool": "ad"}, "/agent/tool", "unknown_tool"),
        ({"type": "prompt"}, "/agent/prompt", "required"),
        ({**PROMPT, "output_schema": {"type": "x"}}, "/agent/output_schema", "invalid_schema"),
        (
            {**PROMPT, "parameters": {"temperature": 3}},
            "/agent/parameters/temperature",
            "out_of_range",
        ),
    ],
)
def test_agents_are_checked_against_what_there_is(agent: object, loc: str, code: str) -> None:
    assert found({"a": {"agent": agent}}) == {f"/steps/a{loc}": code}


@pytest.mark.parametrize(
    ("step", "problems"),
    [
        ({"agent": {**PROMPT, "provider": "acme"}}, {}),
        ({"agent": {**PROMPT, "provider": "acme"}, "batch": {"within": "6h"}}, {}),
        ({"agent": {**PROMPT, "provider": "local"}}, {"/batch": "batches_not_offered"}),
        ({"agent": PROMPT}, {"/batch": "batches_not_offered"}),
        ({"agent": PROMPT, "batch": False}, {}),
        ({"agent": {"type": "aggregator"}}, {"/batch": "not_applicable"}),
        ({"delay": "5m"}, {"/batch": "not_applicable"}),
        # It says what is wrong with the provider, and nothing else.
        (
            {"agent": {**PROMPT, "provider": "openai"}},
            {"/agent/provider": "provider_not_configured"},
        ),
    ],
)
def test_batches_are_for_agents_whose_provider_takes_them(
    step: dict[str, object], problems: dict[str, str]
) -> None:
    expected = {f"/steps/a{loc}": code for loc, code in problems.items()}
    assert found({"a": {"batch": True, **step}}) == expected


def test_provider_without_batches_is_told_with_those_that_have_them() -> None:
    assert "name one that does: acme" in message({"a": {"agent": PROMPT, "batch": True}})


def test_unknown_name_is_answered_with_a_known_one() -> None:
    assert "did you mean `writer`?" in message({"a": {"agent": "writr"}})


def test_override_that_the_agent_cannot_use_is_refused() -> None:
    steps = {"a": {"agent": {"type": "aggregator"}, "prompt": "x"}}

    assert found(steps) == {"/steps/a/prompt": "not_applicable"}


@pytest.mark.parametrize(
    ("prompt", "code"),
    [
        ("${input.topik}", "unknown_variable"),
        ("${input.note}", "may_be_missing"),
        ("${input.note ?? 'none'}", None),
        ("${input.topic.x}", "unknown_variable"),
        ("${steps.a.output}", None),
        ("${steps.a.output.x}", "unknown_variable"),
        ("${steps.a}", "unknown_variable"),
        ("${steps.other.output}", "not_upstream"),
        ("${steps.b.output}", "not_upstream"),
        ("${steps.gone.output}", "unknown_step"),
        ("${item}", "unknown_variable"),
        ("${loop.round}", "unknown_variable"),
        ("${env.HOME}", "unknown_variable"),
        ("${", "template_syntax"),
        ("$${input.topik}", None),
    ],
)
def test_variables_are_checked(prompt: str, code: str | None) -> None:
    inputs = {
        "type": "object",
        "required": ["topic"],
        "properties": {"topic": {"type": "string"}, "note": {"type": "string"}},
    }
    steps = {
        "a": {"agent": PROMPT},
        "other": {"agent": PROMPT},
        "b": {"needs": ["a"], "agent": "writer", "prompt": prompt},
    }

    assert found(steps, inputs=inputs) == ({"/steps/b/prompt": code} if code else {})


def test_output_schema_says_what_later_steps_may_read() -> None:
    schema = {"type": "object", "required": ["title"], "properties": {"title": {"type": "string"}}}
    steps = {
        "a": {"agent": {**PROMPT, "output_schema": schema}},
        "b": {"needs": ["a"], "agent": "writer", "prompt": "${steps.a.output.title}"},
        "c": {"needs": ["a"], "agent": "writer", "prompt": "${steps.a.output.titel}"},
    }

    assert found(steps) == {"/steps/c/prompt": "unknown_variable"}


def routed(*conditions: str) -> dict[str, object]:
    router = {"type": "router", "routes": ["polish_it", "ship_it"], "prompt": "Which?"}
    steps: dict[str, object] = {"a": {"agent": router}}
    for number, condition in enumerate(conditions):
        steps[f"b{number}"] = {"needs": ["a"], "agent": PROMPT, "when": condition}
    return steps


@pytest.mark.parametrize(
    "condition",
    [
        'steps.a.output.route == "polish"',
        '!(steps.a.output.route != "polish") && true',
        '"polish" == steps.a.output.route',
        'steps.a.output.route in ["ship_it", "polish"]',
    ],
)
def test_comparison_with_a_route_that_does_not_exist_is_found(condition: str) -> None:
    report = examine({"name": "x", "steps": routed(condition)}, CATALOG)

    (problem,) = report.problems
    assert (problem.loc, problem.code) == ("/steps/b0/when", "never_true")
    assert "polish_it, ship_it; did you mean `polish_it`?" in problem.message


@pytest.mark.parametrize(
    "condition",
    [
        'steps.a.output.route == "polish_it"',
        'steps.a.output.route in ["ship_it", "polish_it"]',
        'steps.a.output.route + "x" == "polish"',
        '"polish" == steps.a.output.route + "x"',
        '"p" + steps.a.output.route == "polish"',
        'steps.a.output.route == "po" + "lish_it"',
        "steps.a.output.route == r'polish'",
        '["x"].exists(each, steps.a.output.route == "polish")',
    ],
)
def test_comparisons_that_may_hold_are_left_alone(condition: str) -> None:
    assert found(routed(condition)) == {}


def test_agents_that_judge_need_something_to_look_at() -> None:
    judge = {"type": "evaluator", "threshold": 0.5}
    text = "${steps.with_needs.output.x}"
    steps = {
        "a": {"agent": PROMPT},
        "with_needs": {"agent": judge, "needs": ["a"]},
        "with_prompt": {"agent": judge, "prompt": "Good?"},
        "without": {"agent": judge},
        "adding": {"agent": judge, "needs": ["a"], "adds_steps": True},
        "shaped": {"agent": judge, "needs": ["a"], "output_schema": {"type": "object"}},
        "reads": {"agent": "writer", "needs": ["with_needs"], "prompt": text},
    }

    assert found(steps) == {
        "/steps/without/agent/prompt": "required",
        "/steps/adding/adds_steps": "not_applicable",
        "/steps/shaped/output_schema": "not_applicable",
        "/steps/reads/prompt": "unknown_variable",
    }


def test_tool_arguments_are_checked_against_the_tool() -> None:
    arguments = {"b": "${steps.a.output}", "c": 1}
    tool = {"type": "tool", "tool": "add", "arguments": arguments}
    steps = {"a": {"agent": PROMPT}, "b": {"needs": ["a"], "agent": tool}}

    assert found(steps) == {
        "/steps/b/agent/arguments/a": "required",
        "/steps/b/agent/arguments/b": "wrong_type",
        "/steps/b/agent/arguments/c": "unknown_argument",
    }


def test_source_that_may_be_skipped_demands_a_default() -> None:
    steps = {
        "a": {"agent": PROMPT, "when": "input.go"},
        "b": {"needs": ["a"], "agent": "writer", "prompt": "${steps.a.output}"},
        "c": {"needs": ["a"], "agent": "writer", "prompt": "${steps.a.output ?? 'none'}"},
    }

    assert found(steps, output="${steps.b.output}") == {
        "/steps/b/prompt": "may_be_missing",
        "/output": "may_be_missing",
    }


@pytest.mark.parametrize(
    ("condition", "code"),
    [
        ("steps.a.output == 'x'", None),
        ("steps.other.output == 'x'", "not_upstream"),
        ("steps.gone.output == 'x'", "unknown_step"),
        ("1 ==", "invalid_condition"),
        ("item == 1", "unknown_variable"),
    ],
)
def test_conditions_are_checked(condition: str, code: str | None) -> None:
    steps = {
        "a": {"agent": PROMPT},
        "other": {"agent": PROMPT},
        "b": {"needs": ["a"], "agent": PROMPT, "when": condition},
    }

    assert found(steps) == ({"/steps/b/when": code} if code else {})


def test_step_behind_a_condition_that_is_always_false_is_never_reached() -> None:
    steps = {
        "a": {"agent": PROMPT, "when": "1 > 2"},
        "b": {"needs": ["a"], "agent": PROMPT},
    }

    assert found(steps) == {"/steps/a": "unreachable", "/steps/b": "unreachable"}


def test_mapped_step_knows_item_and_index() -> None:
    schema = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
    a = {"agent": {**PROMPT, "output_schema": {"type": "array", "items": schema}}}
    b = {"needs": ["a"], "map": {"over": "${steps.a.output}"}, "agent": "writer"}

    assert found({"a": a, "b": {**b, "prompt": "${index}: ${item.n}"}}) == {}
    assert found({"a": a, "b": {**b, "prompt": "${item.m}"}}) == {
        "/steps/b/prompt": "unknown_variable"
    }


def test_map_over_text_is_refused() -> None:
    steps = {
        "a": {"agent": PROMPT},
        "b": {"needs": ["a"], "map": {"over": "${steps.a.output}"}, "agent": PROMPT},
    }

    assert found(steps) == {"/steps/b/map/over": "wrong_type"}


LISTED = {
    "inputs": {
        "type": "object",
        "required": ["names"],
        "properties": {"names": {"type": "array", "items": {"type": "string"}}},
    }
}
OVER = {"over": "${input.names}"}


@pytest.mark.parametrize(
    "step",
    [
        {"workflow": "fact-check@3", "input": {"n": "${index}", "x": "${item}"}},
        {"approval": {"question": "Take ${item}?"}},
        {
            "loop": {
                "steps": {"a": {"agent": PROMPT | {"prompt": "${item}"}, "when": "index > 1"}},
                "until": "item == 'x'",
                "max_rounds": 2,
                "output": "${index}",
            }
        },
    ],
    ids=["workflow", "approval", "loop"],
)
def test_steps_of_all_kinds_that_stand_for_others_may_be_mapped(step: dict[str, object]) -> None:
    data = {"name": "x", **LISTED, "steps": {"each": {**step, "map": OVER}}}

    assert examine(data, CATALOG).can_publish


def test_delay_cannot_be_mapped() -> None:
    assert found({"each": {"delay": "1s", "map": OVER}}, **LISTED) == {
        "/steps/each/map": "not_applicable"
    }


def test_condition_and_list_of_a_map_know_no_item_of_it() -> None:
    steps = {"each": {"agent": PROMPT, "map": {"over": "${item}"}, "when": "item == 1"}}

    assert found(steps) == {
        "/steps/each/map/over": "unknown_variable",
        "/steps/each/when": "unknown_variable",
    }


def test_map_in_the_loop_of_an_item_may_go_over_that_item() -> None:
    inner = {"agent": PROMPT | {"prompt": "${item}"}, "map": {"over": "${item.parts}"}}
    loop = {"steps": {"in": inner}, "until": "true", "max_rounds": 1}
    parts = {"type": "object", "required": ["parts"], "properties": {"parts": {"type": "array"}}}
    names = {"type": "array", "items": parts}
    inputs = {"type": "object", "required": ["names"], "properties": {"names": names}}

    assert found({"each": {"loop": loop, "map": OVER}}, inputs=inputs) == {}


def test_list_of_a_map_that_cannot_be_read_is_reported_once() -> None:
    steps = {"a": {"agent": PROMPT | {"prompt": "${item}"}, "map": {"over": "${input.x ?? []}"}}}

    assert found(steps) == {"/steps/a/map/over": "template_syntax"}


def test_loops_nest_no_deeper_than_their_places_can_be_named() -> None:
    step: dict[str, object] = {"agent": PROMPT}
    for _ in range(5):
        step = {"loop": {"steps": {"a": step}, "until": "true", "max_rounds": 1}}

    assert list(found({"a": step}).values()) == ["too_deep"]


def test_what_cannot_run_yet_is_valid_but_not_published() -> None:
    inner = {"a": {"agent": PROMPT}}
    capped = {"max_cost_usd": "1", "loop": {"steps": inner, "until": "true", "max_rounds": 1}}
    loop = {"steps": {"again": capped}, "until": "true", "max_rounds": 1}

    report = examine({"name": "x", "steps": {"polish": {"loop": loop}}}, CATALOG)

    assert report.is_valid
    assert not report.can_publish
    assert [problem.loc for problem in report.unsupported] == [
        "/steps/polish/loop/steps/again/max_cost_usd"
    ]


def test_loop_has_names_of_its_own_and_sees_what_lies_before_it() -> None:
    loop = {
        "steps": {
            "write": {
                "agent": "writer",
                "prompt": "${steps.a.output} ${loop.previous.judge.output.feedback ?? 'none'}",
            },
            "judge": {"needs": ["write"], "agent": {"type": "evaluator"}},
        },
        "until": "steps.judge.output.accepted",
        "max_rounds": 3,
        "output": "${steps.write.output}",
    }
    steps = {"a": {"agent": PROMPT}, "b": {"needs": ["a"], "loop": loop}}

    assert found(steps) == {}


def test_problems_inside_a_loop_have_their_place() -> None:
    loop = {
        "steps": {
            "write": {"agent": "writer", "prompt": "${loop.previous.judge.output.feedback}"},
            "judge": {"needs": ["write", "gone"], "agent": {"type": "evaluator"}},
        },
        "until": "steps.gone.output",
        "max_rounds": 3,
        "output": "${steps.late.output}",
    }
    steps = {"b": {"loop": loop}, "late": {"needs": ["b"], "agent": PROMPT}}

    assert found(steps) == {
        "/steps/b/loop/steps/write/prompt": "may_be_missing",
        "/steps/b/loop/steps/judge/needs/1": "unknown_dependency",
        "/steps/b/loop/until": "unknown_step",
        "/steps/b/loop/output": "not_upstream",
    }


def test_sub_workflow_must_be_published() -> None:
    steps = {
        "a": {"workflow": "fact-check@3"},
        "b": {"workflow": "fact-check@4"},
        "c": {"workflow": "facts"},
    }

    assert found(steps) == {
        "/steps/b/workflow": "unknown_workflow",
        "/steps/c/workflow": "unknown_workflow",
    }


def test_fallback_of_steps_in_loops_names_a_model_that_there_is() -> None:
    fallback = [{"provider": "local", "model": "auto"}, {"provider": "openai", "model": "x"}]
    loop = {
        "steps": {"b": {"agent": PROMPT, "fallback": fallback}},
        "until": "steps.b.output != null",
        "max_rounds": 2,
        "output": "${steps.b.output}",
    }

    assert found({"a": {"loop": loop}}) == {
        "/steps/a/loop/steps/b/fallback/0/model": "not_applicable",
        "/steps/a/loop/steps/b/fallback/1/provider": "provider_not_configured",
    }


def test_fallback_models_are_checked() -> None:
    fallback = [{"provider": "local", "model": "smollm2"}, {"provider": "openai", "model": "x"}]

    assert found({"a": {"agent": PROMPT, "fallback": fallback}}) == {
        "/steps/a/fallback/1/provider": "provider_not_configured"
    }


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        {"steps": None},
        {"name": "x", "steps": {}},
        {"name": "x", "steps": [None, 3, {"name": 5}]},
        {"name": "x", "steps": {"a": {"needs": "b"}}},
        {"name": "x", "steps": {"a": {"loop": {"steps": [1], "until": 3}}}},
        {"name": "x", "degrade": 3, "inputs": [], "steps": {"a": {"agent": []}}},
    ],
)
def test_nonsense_is_reported_and_never_raises(data: object) -> None:
    report = examine(data, CATALOG)

    assert report.problems
    assert report.spec is None


def test_ten_thousand_steps_are_examined_in_reasonable_time() -> None:
    steps = {
        f"s{i}": {
            "needs": [f"s{i - 1}"] if i % 100 else [],
            "agent": "writer",
            "prompt": f"{i}: ${{steps.s{i - 1}.output}}" if i % 100 else "begin",
        }
        for i in range(10_000)
    }
    started = time.process_time()

    report = examine({"name": "x", "steps": steps}, CATALOG)

    assert report.is_valid
    # About 0.6 s where it was written; the guard is for a slip into quadratic work.
    assert time.process_time() - started < 5


def test_report_of_endless_problems_is_cut_off_at_once() -> None:
    steps = {f"s{i}": {"needs": ["gone"], "agent": "nobody", "x": 1} for i in range(10_000)}
    started = time.process_time()

    report = examine({"name": "x", "steps": steps}, CATALOG)

    assert len(report.problems) == 501
    assert report.problems[-1].code == "too_many_problems"
    assert time.process_time() - started < 5


def test_all_that_can_be_written_of_an_agent_reaches_it() -> None:
    assert {*AgentSpec.model_fields} == DESCRIBED
    assert frozenset().union(*FIELDS_OF_AGENT.values()) == DESCRIBED
