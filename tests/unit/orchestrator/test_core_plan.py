import json
from collections.abc import Mapping

import pytest

from orchestrator.core.config import AgentConfig
from orchestrator.core.parsing import spec_from_mapping
from orchestrator.core.plan import Gate, Plan, compile_plan, plan_from_json, plan_to_json

PROMPT = {"type": "prompt", "prompt": "x"}
DIAMOND = {
    "a": {"agent": PROMPT},
    "c": {"needs": ["a"], "agent": PROMPT, "priority": 9},
    "b": {"needs": ["a"], "agent": PROMPT},
    "d": {"needs": ["b", "c"], "agent": {"type": "aggregator"}},
}


def plan(
    steps: Mapping[str, object], agents: Mapping[str, AgentConfig] | None = None, **fields: object
) -> Plan:
    spec = spec_from_mapping({"name": "acme", "steps": steps, **fields})
    return compile_plan(spec, agents or {})


def test_levels_strategy_puts_steps_as_early_as_their_needs_allow() -> None:
    assert {step.name: step.level for step in plan(DIAMOND).steps} == {
        "a": 0,
        "b": 1,
        "c": 1,
        "d": 2,
    }


def test_sequential_strategy_follows_the_authors_order_as_far_as_needs_allow() -> None:
    steps = {
        "late": {"needs": ["b"], "agent": PROMPT},
        "a": {"agent": PROMPT},
        "b": {"agent": PROMPT},
    }

    ordered = sorted(plan(steps, strategy="sequential").steps, key=lambda step: step.level)

    assert [step.name for step in ordered] == ["a", "b", "late"]


@pytest.mark.parametrize("strategy", ["levels", "adaptive"])
def test_plan_survives_the_database(strategy: str) -> None:
    compiled = plan(
        DIAMOND,
        strategy=strategy,
        output={"d": "${steps.d.output}"},
        failure={"mode": "partial"},
        defaults={"retry": {"attempts": 2}},
    )

    assert plan_from_json(json.loads(json.dumps(plan_to_json(compiled)))) == compiled


def test_step_wins_over_agent_over_defaults() -> None:
    agents = {"writer": {"type": "prompt", "model": "m2", "parameters": {"b": 2}, "id": "7"}}
    defaults = {"provider": "p1", "model": "m1", "parameters": {"a": 1, "b": 1}, "timeout": "1m"}
    steps = {"a": {"agent": "writer", "prompt": "x", "parameters": {"c": 3}, "priority": 0}}

    step = plan(steps, agents, defaults=defaults).step("a")

    assert (step.provider, step.model, step.agent) == ("p1", "m2", "writer")
    assert step.config["parameters"] == {"a": 1, "b": 2, "c": 3}
    assert step.config["id"] == "7"
    assert (step.timeout_seconds, step.priority) == (60, 0)


def test_another_provider_does_not_inherit_the_model() -> None:
    agents = {"writer": {"type": "prompt", "provider": "openai", "model": "big"}}

    step = plan({"a": {"agent": "writer", "provider": "local"}}, agents).step("a")

    assert (step.provider, step.model) == ("local", None)


def test_model_defaults_do_not_reach_agents_without_a_model() -> None:
    tool = {"type": "tool", "tool": "add", "arguments": {"a": "${steps.z.output}"}}
    steps = {"z": {"agent": PROMPT}, "a": {"needs": ["z"], "agent": tool}}

    step = plan(steps, defaults={"provider": "local", "model": "m"}).step("a")

    assert (step.provider, step.model, step.uses_model) == (None, None, False)


def test_reads_name_the_steps_whose_outputs_are_used() -> None:
    steps = {
        "a": {"agent": PROMPT},
        "b": {"needs": ["a"], "agent": PROMPT},
        "c": {"needs": ["b"], "agent": {"type": "prompt"}, "prompt": "${steps.a.output ?? 1}"},
        "d": {"needs": ["c", "b"], "agent": {"type": "aggregator"}},
    }
    compiled = plan(steps, output="${steps.b.output} ${steps.a.output}")

    assert compiled.step("c").reads == ("a",)
    assert compiled.step("d").reads == ("c", "b")
    assert compiled.output_reads == ("a", "b")


def test_condition_names_the_steps_that_it_reads() -> None:
    steps = {
        "a": {"agent": PROMPT},
        "b": {"needs": ["a"], "agent": PROMPT},
        "c": {"needs": ["b"], "agent": PROMPT, "when": "steps.b.output > steps.a.output"},
    }

    step = plan(steps).step("c")

    assert (step.when, step.when_reads) == ("steps.b.output > steps.a.output", ("a", "b"))


def test_delay_is_planned_in_seconds_and_takes_no_model() -> None:
    step = plan({"pause": {"delay": "2m"}}).step("pause")

    assert (step.kind, step.delay_seconds, step.uses_model) == ("delay", 120, False)


def adaptive(**steps: Mapping[str, object]) -> Plan:
    return plan(
        {name: {"agent": PROMPT, **step} for name, step in steps.items()}, strategy="adaptive"
    )


def exit_gate(compiled: Plan) -> Gate:
    return compiled.gates[-1]


def test_only_the_adaptive_strategy_counts() -> None:
    compiled = plan(DIAMOND)

    assert not compiled.gates
    assert not any(step.next_steps or step.gates or step.tells for step in compiled.steps)


def test_step_with_a_single_need_is_started_by_it_without_a_gate() -> None:
    compiled = adaptive(a={}, b={"needs": ["a"]}, c={"needs": ["a"]})

    assert compiled.step("a").next_steps == ("b", "c")
    assert compiled.step("a").gates == ()
    assert len(compiled.gates) == 1


def test_steps_that_need_the_same_share_a_gate_in_whatever_order_they_name_it() -> None:
    compiled = adaptive(a={}, b={}, c={"needs": ["a", "b"]}, d={"needs": ["b", "a"]})

    assert compiled.gates[0] == Gate(number=0, needs=2, steps=("c", "d"))
    assert compiled.step("a").gates == compiled.step("b").gates == (0,)
    assert compiled.step("a").next_steps == ()


def test_last_gate_counts_the_exits_and_asks() -> None:
    compiled = adaptive(a={}, b={"needs": ["a"]}, alone={})

    assert exit_gate(compiled) == Gate(number=0, needs=2, steps=(), tells=True)
    assert [step.name for step in compiled.steps if step.gates] == ["b", "alone"]


def test_dense_levels_take_edges_by_the_number_of_steps_not_of_pairs() -> None:
    def level(number: int) -> list[str]:
        return [f"l{number}_{index}" for index in range(100)]

    compiled = adaptive(
        **{name: {} for name in level(0)}, **{name: {"needs": level(0)} for name in level(1)}
    )

    lowered = sum(len(step.gates) for step in compiled.steps)
    started = sum(len(gate.steps) for gate in compiled.gates)
    assert lowered + started == 100 + 100 + len(compiled.exits)
    assert [gate.needs for gate in compiled.gates] == [100, 100]


@pytest.mark.parametrize("follower", [{"when": "input.go"}, {"delay": "1m", "agent": None}])
def test_need_asks_for_advance_where_counting_does_not_tell_whether_its_follower_starts(
    follower: dict[str, object],
) -> None:
    written = {key: value for key, value in {"agent": PROMPT, **follower}.items() if value}
    single = plan({"a": {"agent": PROMPT}, "z": {"needs": ["a"], **written}}, strategy="adaptive")
    both = plan(
        {"a": {"agent": PROMPT}, "b": {"agent": PROMPT}, "z": {"needs": ["a", "b"], **written}},
        strategy="adaptive",
    )

    assert (single.step("a").tells, single.step("a").next_steps) == (True, ())
    assert not both.step("a").tells
    assert both.gates[0] == Gate(number=0, needs=2, steps=(), tells=True)


def test_gate_starts_its_plain_steps_and_asks_for_the_others() -> None:
    compiled = adaptive(
        a={}, b={}, plain={"needs": ["a", "b"]}, asked={"needs": ["a", "b"], "when": "input.go"}
    )

    assert compiled.gates[0] == Gate(number=0, needs=2, steps=("plain",), tells=True)


def test_every_need_of_a_join_any_asks_for_advance() -> None:
    compiled = adaptive(a={}, b={}, z={"needs": ["a", "b"], "join": "any"})

    assert compiled.step("a").tells
    assert compiled.step("b").tells
    assert not compiled.step("z").tells
