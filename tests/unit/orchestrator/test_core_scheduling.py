from collections.abc import Mapping
from typing import Any

from orchestrator.core.parsing import spec_from_mapping
from orchestrator.core.plan import Plan, compile_plan
from orchestrator.core.scheduling import Decision, Progress, ready
from orchestrator.core.state import AgentRunStatus
from tests.property.engine_model import progress_of

PROMPT = {"type": "prompt", "prompt": "x"}
DIAMOND = {
    "a": {},
    "c": {"needs": ["a"], "priority": 9},
    "b": {"needs": ["a"]},
    "d": {"needs": ["b", "c"]},
}


def plan(steps: Mapping[str, Any], *, mode: str = "partial", **fields: object) -> Plan:
    """Steps are prompts unless they say otherwise."""
    written = {
        name: step if "delay" in step else {"agent": PROMPT, **step} for name, step in steps.items()
    }
    policy = {"failure": {"mode": mode}, "strategy": "adaptive", **fields}
    return compile_plan(spec_from_mapping({"name": "acme", "steps": written, **policy}), {})


def decide(
    compiled: Plan, *, judged: dict[str, bool | str] | None = None, **statuses: str
) -> Decision:
    """Steps that are not named are pending."""
    stands = {
        step.name: AgentRunStatus(statuses.get(step.name, "pending")) for step in compiled.steps
    }
    return ready(compiled, progress_of(compiled, stands, judged))


class TestAdaptive:
    def test_what_needs_nothing_starts_the_most_urgent_first(self) -> None:
        compiled = plan({"a": {}, "b": {"priority": 9}, "c": {"needs": ["a"]}})

        assert decide(compiled).dispatch == ("b", "a")

    def test_step_starts_once_its_own_needs_have_completed_whatever_else_is_at_work(self) -> None:
        compiled = plan({"slow": {}, "a": {}, "b": {"needs": ["a"]}, "c": {"needs": ["b", "slow"]}})

        decision = decide(compiled, slow="running", a="completed")

        assert (decision.dispatch, decision.level) == (("b",), None)

    def test_run_waits_while_a_step_is_at_work(self) -> None:
        for status in ("ready", "queued", "running", "waiting"):
            decision = decide(plan(DIAMOND), a="completed", b=status, c="completed")

            assert decision == Decision()

    def test_run_is_settled_when_every_step_is(self) -> None:
        assert decide(plan(DIAMOND), **dict.fromkeys("abcd", "completed")).is_settled


class TestLevels:
    def test_first_level_starts_a_run(self) -> None:
        assert decide(plan(DIAMOND, strategy="levels")).dispatch == ("a",)

    def test_next_level_starts_most_urgent_first_once_the_one_before_is_settled(self) -> None:
        decision = decide(plan(DIAMOND, strategy="levels"), a="completed")

        assert (decision.dispatch, decision.level) == (("c", "b"), 1)

    def test_level_waits_for_all_of_the_one_before(self) -> None:
        compiled = plan({"a": {}, "other": {}, "b": {"needs": ["a"]}}, strategy="levels")

        assert decide(compiled, a="completed", other="running") == Decision()

    def test_level_of_which_nothing_runs_lets_the_next_one_start_at_once(self) -> None:
        steps = {
            "a": {},
            "ok": {},
            "b": {"needs": ["a"]},
            "d": {"needs": ["b", "ok"], "join": "any"},
        }

        decision = decide(plan(steps, strategy="levels"), a="failed", ok="completed")

        assert (decision.dispatch, decision.level, set(decision.skip)) == (("d",), 2, {"b"})

    def test_run_is_settled_when_every_step_is(self) -> None:
        compiled = plan(DIAMOND, strategy="levels")

        assert decide(compiled, **dict.fromkeys("abcd", "completed")).is_settled

    def test_sequential_starts_one_step_after_the_other(self) -> None:
        compiled = plan({"a": {}, "b": {}, "c": {}}, strategy="sequential")

        assert decide(compiled).dispatch == ("a",)
        assert decide(compiled, a="running") == Decision()
        assert decide(compiled, a="completed").dispatch == ("b",)

    def test_sequential_passes_by_what_is_skipped(self) -> None:
        compiled = plan({"a": {}, "b": {"needs": ["a"]}, "c": {}}, strategy="sequential")

        decision = decide(compiled, a="failed")

        assert (decision.dispatch, set(decision.skip)) == (("c",), {"b"})


class TestJoins:
    ALL = plan({"a": {}, "b": {}, "z": {"needs": ["a", "b"]}})
    ANY = plan({"a": {}, "b": {}, "z": {"needs": ["a", "b"], "join": "any"}})

    def test_all_waits_for_every_need(self) -> None:
        assert decide(self.ALL, a="completed", b="running") == Decision()

    def test_all_runs_with_what_has_completed_beside_what_was_skipped(self) -> None:
        assert decide(self.ALL, a="completed", b="skipped").dispatch == ("z",)

    def test_all_is_skipped_if_none_of_its_needs_ran(self) -> None:
        decision = decide(self.ALL, a="skipped", b="skipped")

        assert decision.skip == {"z": "None of the steps that it needs ran"}
        assert decision.is_settled

    def test_all_is_skipped_as_soon_as_a_need_fails(self) -> None:
        for status in ("failed", "cancelled", "budget_exceeded"):
            decision = decide(self.ALL, a=status, b="running")

            assert decision.skip == {"z": "It needs `a`, which did not complete"}
            assert not decision.is_settled

    def test_any_starts_at_the_first_that_completes(self) -> None:
        assert decide(self.ANY, a="running", b="completed").dispatch == ("z",)

    def test_any_starts_beside_a_failure(self) -> None:
        assert decide(self.ANY, a="failed", b="completed").dispatch == ("z",)

    def test_any_waits_while_one_can_still_complete(self) -> None:
        assert decide(self.ANY, a="failed", b="running") == Decision()

    def test_any_is_skipped_once_none_can_complete(self) -> None:
        assert set(decide(self.ANY, a="skipped", b="skipped").skip) == {"z"}
        assert set(decide(self.ANY, a="failed", b="skipped").skip) == {"z"}


class TestSkips:
    def test_skip_for_a_failure_spreads_through_all_that_needs_it(self) -> None:
        steps = {"a": {}, "b": {"needs": ["a"]}, "ok": {}, "c": {"needs": ["b", "ok"]}}

        decision = decide(plan(steps), a="failed", ok="completed")

        assert decision.skip == {
            "b": "It needs `a`, which did not complete",
            "c": "It needs `b`, which did not complete",
        }
        assert decision.is_settled

    def test_skip_for_a_failure_spreads_from_skips_that_were_written_before(self) -> None:
        steps = {"a": {}, "b": {"needs": ["a"]}, "ok": {}, "c": {"needs": ["b", "ok"]}}
        for strategy in ("adaptive", "levels"):
            decision = decide(
                plan(steps, strategy=strategy), a="failed", b="skipped", ok="completed"
            )

            assert set(decision.skip) == {"c"}

    def test_skip_for_a_condition_does_not_hold_up_a_join_that_another_need_completed(self) -> None:
        steps = {
            "a": {"when": "input.go"},
            "b": {"needs": ["a"]},
            "ok": {},
            "c": {"needs": ["b", "ok"]},
        }
        for strategy in ("adaptive", "levels"):
            decision = decide(
                plan(steps, strategy=strategy), a="skipped", b="skipped", ok="completed"
            )

            assert (decision.dispatch, decision.skip) == (("c",), {})

    def test_any_that_was_skipped_beside_a_failure_counts_as_failed(self) -> None:
        steps = {
            "a": {},
            "b": {},
            "x": {"needs": ["a", "b"], "join": "any"},
            "ok": {},
            "z": {"needs": ["x", "ok"]},
        }

        decision = decide(plan(steps), a="failed", b="skipped", x="skipped", ok="completed")

        assert set(decision.skip) == {"z"}

    def test_any_that_its_condition_skipped_does_not_count_as_failed_though_a_need_did(
        self,
    ) -> None:
        steps = {
            "a": {},
            "b": {},
            "x": {"needs": ["a", "b"], "join": "any", "when": "input.go"},
            "ok": {},
            "z": {"needs": ["x", "ok"]},
        }

        decision = decide(plan(steps), a="failed", b="completed", x="skipped", ok="completed")

        assert decision.dispatch == ("z",)

    def test_partial_mode_goes_on_with_what_the_failure_does_not_touch(self) -> None:
        steps = {"a": {}, "ok": {}, "b": {"needs": ["a"]}, "d": {"needs": ["ok"]}}
        for strategy in ("adaptive", "levels"):
            decision = decide(plan(steps, strategy=strategy), a="failed", ok="completed")

            assert (decision.dispatch, set(decision.skip)) == (("d",), {"b"})


class TestFailFast:
    def test_nothing_more_starts_and_the_first_culprit_of_the_author_is_named(self) -> None:
        for strategy in ("adaptive", "levels", "sequential"):
            compiled = plan({"a": {}, "b": {}, "c": {}}, mode="fail_fast", strategy=strategy)

            decision = decide(compiled, c="failed", b="failed")

            assert decision == Decision(stop="`b` failed, and the workflow fails fast")

    def test_budget_that_ran_out_is_a_failure(self) -> None:
        assert decide(plan(DIAMOND, mode="fail_fast"), a="budget_exceeded").stop

    def test_skips_and_cancellations_are_none(self) -> None:
        compiled = plan({"a": {}, "b": {}, "c": {}}, mode="fail_fast")

        assert decide(compiled, a="skipped", b="cancelled").dispatch == ("c",)


class TestConditions:
    STEPS = plan({"a": {}, "z": {"needs": ["a"], "when": "input.go"}, "end": {"needs": ["z"]}})

    def test_condition_is_asked_for_once_the_needs_allow_the_step(self) -> None:
        assert not decide(self.STEPS, a="running").judge
        assert decide(self.STEPS, a="completed") == Decision(judge=("z",))

    def test_nothing_is_done_before_all_conditions_are_known(self) -> None:
        compiled = plan({"a": {}, "b": {"when": "input.go"}, "c": {"when": "input.go"}})

        assert decide(compiled, judged={"b": True}) == Decision(judge=("c",))

    def test_step_of_a_true_condition_starts(self) -> None:
        assert decide(self.STEPS, a="completed", judged={"z": True}).dispatch == ("z",)

    def test_step_of_a_false_condition_is_skipped_and_all_that_needs_it_alone(self) -> None:
        decision = decide(self.STEPS, a="completed", judged={"z": False})

        assert decision.skip == {
            "z": "Its condition `input.go` is false",
            "end": "None of the steps that it needs ran",
        }
        assert decision.is_settled

    def test_step_of_a_condition_that_raises_fails_before_anything_starts(self) -> None:
        compiled = plan({"a": {}, "z": {"when": "input.go"}})

        decision = decide(compiled, judged={"z": "`input.go` gives a string"})

        assert decision == Decision(fail={"z": "`input.go` gives a string"})

    def test_condition_of_a_step_that_may_not_run_is_not_asked_for(self) -> None:
        assert not decide(self.STEPS, a="failed").judge

    def test_branches_that_conditions_choose_meet_again(self) -> None:
        steps = {
            "left": {"when": "input.go"},
            "right": {"when": "!input.go"},
            "meet": {"needs": ["left", "right"]},
        }
        for strategy in ("adaptive", "levels"):
            compiled = plan(steps, strategy=strategy)

            first = decide(compiled, judged={"left": True, "right": False})
            then = decide(compiled, left="completed", right="skipped")

            assert (first.dispatch, set(first.skip)) == (("left",), {"right"})
            assert (then.dispatch, then.skip) == (("meet",), {})


class TestWaits:
    def test_delay_waits_beside_the_agents_that_start(self) -> None:
        for strategy in ("adaptive", "levels"):
            decision = decide(plan({"a": {}, "pause": {"delay": "1m"}}, strategy=strategy))

            assert (decision.dispatch, decision.wait) == (("a",), ("pause",))

    def test_run_with_nothing_but_a_delay_is_not_settled(self) -> None:
        compiled = plan({"pause": {"delay": "1m"}})

        assert not decide(compiled).is_settled
        assert decide(compiled, pause="waiting") == Decision()


class TestRetriedRuns:
    def test_what_did_not_complete_starts_anew_and_the_rest_is_kept(self) -> None:
        for strategy in ("adaptive", "levels"):
            compiled = plan({"a": {}, "b": {}, "z": {"needs": ["a", "b"]}}, strategy=strategy)

            assert decide(compiled, a="completed").dispatch == ("b",)
            assert decide(compiled, a="completed", b="completed").dispatch == ("z",)

    def test_condition_of_a_step_that_completed_is_not_asked_for_again(self) -> None:
        compiled = plan({"a": {"when": "input.go"}, "b": {}}, strategy="levels")

        assert decide(compiled, a="completed") == Decision(dispatch=("b",), level=0)

    def test_follower_that_completed_before_what_it_needs_stays_so(self) -> None:
        compiled = plan({"a": {}, "b": {}, "z": {"needs": ["a", "b"], "join": "any"}})

        assert decide(compiled, a="completed", z="completed").dispatch == ("b",)


def test_progress_is_read_from_the_rows_json() -> None:
    progress = Progress.of({"a": "failed"}, {"1": {"pending": 2}}, {"b": True})

    assert progress == Progress(
        statuses={"a": AgentRunStatus.FAILED},
        unsettled={1: {AgentRunStatus.PENDING: 2}},
        judged={"b": True},
    )
    assert Progress.of(None, None, {}) == Progress()
