from typing import Any

import pytest

from orchestrator.models import AgentRun, Attempt, LlmCall, RunEvent
from tests.e2e.stories import echo, ended, simulated, start, statuses
from tests.world import World

BROKEN = {"agent": {"type": "tool", "tool": "calculator"}, "arguments": {"expression": "1/0"}}

pytestmark = pytest.mark.usefixtures("cluster")


def test_outputs_flow_from_level_to_level(acme: World) -> None:
    steps = {
        "a": echo(value="${input.name}"),
        "b": echo(value="${steps.a.output}", needs=["a"]),
        "c": echo(value="${steps.a.output}", needs=["a"]),
        "all": {"agent": {"type": "aggregator"}, "needs": ["b", "c"]},
    }

    run = ended(acme, start(acme, steps, given={"name": "Ada"}))

    assert (run.status, run.status_reason) == ("completed", "4 of 4 steps completed")
    assert list(run.output) == ["b", "c"]
    assert "Ada" in str(run.output["b"])


@pytest.mark.parametrize("strategy", ["levels", "sequential"])
def test_every_step_of_a_wide_graph_runs_once(acme: World, strategy: str) -> None:
    steps: dict[str, Any] = {f"a{i}": echo(value=str(i)) for i in range(30)}
    steps["end"] = {"agent": {"type": "aggregator"}, "needs": list(steps)}

    run = ended(acme, start(acme, steps, strategy=strategy))

    with acme.scope():
        assert run.status == "completed"
        assert Attempt.objects.filter(agent_run__run=run).count() == 31


def test_level_wider_than_max_parallel_runs_within_its_window(acme: World) -> None:
    steps: dict[str, Any] = {f"a{i}": simulated(f"{i}") for i in range(20)}
    steps["end"] = {"agent": {"type": "aggregator"}, "needs": list(steps)}

    run = ended(acme, start(acme, steps, max_parallel=3))

    with acme.scope():
        events = RunEvent.objects.filter(run=run).values_list("type", "agent_run_id")
        in_flight, most = set(), 0
        for kind, agent_run in events:
            if kind == "agent.queued":
                in_flight.add(agent_run)
            if kind == "agent.completed":
                in_flight.discard(agent_run)
            most = max(most, len(in_flight))
    assert run.status == "completed"
    assert most <= 3


def test_failed_step_of_a_narrow_window_hands_its_place_on(acme: World) -> None:
    steps: dict[str, Any] = {"a": BROKEN, **{f"b{i}": echo(value=i) for i in range(6)}}

    run = ended(acme, start(acme, steps, max_parallel=1, failure={"mode": "partial"}))

    assert (run.status, run.status_reason) == (
        "partially_completed",
        "1 of 7 steps failed, 6 completed",
    )


def test_calls_are_priced_and_summed_up(acme: World) -> None:
    run = ended(acme, start(acme, {"a": simulated("Hello"), "b": simulated("Bye", needs=["a"])}))

    with acme.scope():
        calls = list(LlmCall.objects.filter(run=run))
        agents = list(AgentRun.objects.filter(run=run))
    assert run.status == "completed"
    assert [call.status for call in calls] == ["closed", "closed"]
    assert sum(a.input_tokens for a in agents) == sum(c.input_tokens for c in calls) > 0


def test_failed_step_ends_its_run_with_the_reason(acme: World) -> None:
    steps = {
        "bad": {
            "agent": {"type": "tool", "tool": "calculator"},
            "arguments": {"expression": "1/0"},
        },
        "after": echo(value="x", needs=["bad"]),
    }

    run = ended(acme, start(acme, steps))

    assert run.status == "failed"
    assert "division by zero" in run.status_reason
    assert statuses(acme, run.id) == {"bad": "failed", "after": "skipped"}


def test_partial_failure_skips_what_hangs_on_it(acme: World) -> None:
    steps = {
        "bad": {
            "agent": {"type": "tool", "tool": "calculator"},
            "arguments": {"expression": "1/0"},
        },
        "good": echo(value="x"),
        "after_bad": echo(value="x", needs=["bad"]),
        "after_good": echo(value="x", needs=["good"]),
        "more": echo(value="x"),
    }

    run = ended(acme, start(acme, steps, failure={"mode": "partial"}))

    assert run.status == "partially_completed"
    assert statuses(acme, run.id) == {
        "bad": "failed",
        "after_bad": "skipped",
        "good": "completed",
        "after_good": "completed",
        "more": "completed",
    }


def test_history_tells_the_whole_story_in_order(acme: World) -> None:
    run = ended(acme, start(acme, {"a": echo(value="x")}))

    with acme.scope():
        types = list(RunEvent.objects.filter(run=run).values_list("type", flat=True))
    assert types == [
        "run.created",
        "run.started",
        "agent.queued",
        "agent.running",
        "agent.completed",
        "run.completed",
    ]
