"""What a replay keeps, as a pure function."""

from typing import Any

import pytest

from orchestrator.core.parsing import spec_from_mapping
from orchestrator.core.plan import Plan, compile_plan
from orchestrator.core.replay import kept_steps, overridden, steps_touched

NONE = frozenset[str]()


def plan(steps: dict[str, Any], **header: Any) -> Plan:
    spec = {"muster": 1, "name": "x", "strategy": "adaptive", "steps": steps, **header}
    return compile_plan(spec_from_mapping(spec), {})


def step(*needs: str, prompt: str = "x", **fields: Any) -> dict[str, Any]:
    agent = {"type": "prompt", "provider": "simulated", "model": "sim"}
    return {"agent": agent, "prompt": prompt, "needs": list(needs), **fields}


DIAMOND = {"a": step(), "b": step("a"), "c": step("a"), "d": step("b", "c")}


def kept(steps: dict[str, Any], ended: dict[str, str], at: str, *touched: str) -> set[str]:
    statuses = dict.fromkeys(steps, "completed") | ended
    return set(kept_steps(plan(steps), statuses, from_step=at, touched=frozenset(touched)))


@pytest.mark.parametrize(("at", "expected"), [("a", ""), ("b", "ac"), ("c", "ab"), ("d", "abc")])
def test_what_does_not_follow_from_the_step_is_kept(at: str, expected: str) -> None:
    assert kept(DIAMOND, {}, at) == set(expected)


def test_what_follows_from_a_touched_step_runs_again() -> None:
    assert kept(DIAMOND, {}, "d", "b") == {"a", "c"}


def test_what_had_not_completed_runs_again() -> None:
    assert kept(DIAMOND, {"b": "failed", "d": "skipped"}, "c") == {"a"}


def test_step_skipped_by_its_condition_spoils_nothing() -> None:
    steps = {**DIAMOND, "e": step("d")}

    assert kept(steps, {"b": "skipped"}, "e") == {"a", "c", "d"}


def test_refused_approval_is_asked_again() -> None:
    approval = {"needs": ["a"], "approval": {"question": "Go?"}}
    steps = {"a": step(), "ask": approval, "b": step("a", "ask"), "c": step()}

    assert kept(steps, {"ask": "skipped"}, "c") == {"a"}
    assert kept(steps, {}, "c") == {"a", "ask", "b"}


def test_step_that_waits_for_any_keeps_what_it_made_without_a_failed_one() -> None:
    steps = {"a": step(), "b": step(), "c": step("a", "b", join="any"), "d": step()}

    assert kept(steps, {"b": "failed"}, "d") == {"a", "c"}
    assert kept(steps, {}, "d", "b") == {"a"}


def test_parts_of_the_input_that_nobody_reads_touch_nothing() -> None:
    steps = {
        "a": step(prompt="${input.topic}"),
        "b": step(prompt="${input.list.0 ?? 'none'} of ${input.tone}"),
        "c": step(prompt="plain"),
        "d": step(when="input.topic == 'x'"),
    }
    before = {"topic": "x", "tone": 1, "list": [1, 2]}

    def touched(**after: Any) -> set[str]:
        return set(steps_touched(plan(steps), before=before, after={**before, **after}))

    assert touched() == set()
    assert touched(list=[1, 3]) == {"d"}  # a condition is not looked into
    assert touched(topic="y") == {"a", "d"}
    assert touched(list=[]) == {"b", "d"}
    assert touched(tone=True) == {"b", "d"}
    assert touched(tone=1.0) == {"b", "d"}


def test_override_lies_over_the_agent() -> None:
    found = overridden(
        plan({"a": step(parameters={"seed": 7})}).step("a"),
        {"prompt": "${input.x}", "parameters": {"temperature": 0}, "timeout": "2m"},
    )

    assert found.config["parameters"] == {"seed": 7, "temperature": 0}
    assert (found.config["prompt"], found.reads_input) == ("${input.x}", True)
    assert (found.timeout_seconds, found.model) == (120, "sim")


def test_model_goes_with_its_provider() -> None:
    one = plan(DIAMOND).step("a")

    assert overridden(one, {"provider": "local"}).model is None
    assert overridden(one, {"provider": "simulated"}).model == "sim"
    assert overridden(one, {"provider": "local", "model": "m"}).model == "m"
