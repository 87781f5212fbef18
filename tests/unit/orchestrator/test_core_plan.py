import json

from orchestrator.core.parsing import spec_from_mapping
from orchestrator.core.plan import Plan, Progress, compile_plan, plan_from_json, plan_to_json, ready

PROMPT = {"type": "prompt", "prompt": "x"}
DIAMOND = {
    "a": {"agent": PROMPT},
    "c": {"needs": ["a"], "agent": PROMPT, "priority": 9},
    "b": {"needs": ["a"], "agent": PROMPT},
    "d": {"needs": ["b", "c"], "agent": {"type": "aggregator"}},
}


def plan(
    steps: dict[str, object], agents: dict[str, object] | None = None, **fields: object
) -> Plan:
    spec = spec_from_mapping({"name": "acme", "steps": steps, **fields})
    return compile_plan(spec, agents or {})


def progress(plan: Plan, **statuses: str) -> Progress:
    """Steps that are not named are pending."""
    unsettled: dict[str, dict[str, int]] = {}
    for step in plan.steps:
        status = statuses.get(step.name, "pending")
        if status in {"pending", "running"}:
            states = unsettled.setdefault(str(step.level), {})
            states[status] = states.get(status, 0) + 1
    badly = {name: s for name, s in statuses.items() if s in {"failed", "skipped", "cancelled"}}
    return Progress.of(unsettled, badly)


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


def test_plan_survives_the_database() -> None:
    compiled = plan(DIAMOND, output={"d": "${steps.d.output}"}, failure={"mode": "partial"})

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


def test_first_level_starts_a_run() -> None:
    compiled = plan(DIAMOND)

    assert ready(compiled, progress(compiled)).dispatch == ("a",)


def test_next_level_starts_most_urgent_first_once_the_one_before_is_settled() -> None:
    compiled = plan(DIAMOND)

    decision = ready(compiled, progress(compiled, a="completed"))

    assert (decision.dispatch, decision.level) == (("c", "b"), 1)


def test_run_waits_while_a_level_is_at_work() -> None:
    compiled = plan(DIAMOND)

    decision = ready(compiled, progress(compiled, a="completed", b="running", c="completed"))

    assert not decision.dispatch
    assert not decision.is_settled


def test_run_is_settled_when_every_step_is() -> None:
    compiled = plan(DIAMOND)

    assert ready(compiled, progress(compiled, **dict.fromkeys("abcd", "completed"))).is_settled


def test_fail_fast_skips_what_is_left_and_stops_what_works() -> None:
    compiled = plan(DIAMOND)

    decision = ready(compiled, progress(compiled, a="completed", b="failed", c="running"))

    assert decision.skip == {"d": "`b` failed, and the workflow fails fast"}
    assert decision.stop_in_flight
    assert not decision.is_settled


def test_partial_mode_skips_all_that_hangs_on_a_failure_and_goes_on_with_the_rest() -> None:
    steps = {
        "a": {"agent": PROMPT},
        "ok": {"agent": PROMPT},
        "b": {"needs": ["a"], "agent": PROMPT},
        "c": {"needs": ["b"], "agent": PROMPT},
        "d": {"needs": ["ok"], "agent": PROMPT},
    }
    compiled = plan(steps, failure={"mode": "partial"})

    decision = ready(compiled, progress(compiled, a="failed", ok="completed"))
    later = ready(
        compiled, progress(compiled, a="failed", ok="completed", b="skipped", d="completed")
    )

    assert (decision.dispatch, decision.skip) == (
        ("d",),
        {"b": "It needs `a`, which did not complete"},
    )
    assert later.skip == {"c": "It needs `b`, which did not complete"}
    assert later.is_settled


def test_budget_that_ran_out_counts_as_failed() -> None:
    compiled = plan(DIAMOND)

    decision = ready(
        compiled, Progress.of({"1": {"pending": 2}, "2": {"pending": 1}}, {"a": "budget_exceeded"})
    )

    assert decision.is_settled
    assert set(decision.skip) == {"b", "c", "d"}
