"""Loops and added steps: scheduled by the same decision, from how their own steps stand."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.parsing import spec_from_mapping
from orchestrator.core.plan import Plan, compile_plan
from orchestrator.core.scheduling import Progress, ready
from orchestrator.core.state import TERMINAL_AGENT_RUN, AgentRunStatus

_A = AgentRunStatus
NAMES = [f"s{number}" for number in range(7)]
TOOL = {"type": "tool", "tool": "echo"}


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, Any]:
    steps: dict[str, Any] = {}
    for name in NAMES[: draw(st.integers(1, len(NAMES)))]:
        needs = draw(st.lists(st.sampled_from(list(steps)), unique=True)) if steps else []
        join = draw(st.sampled_from(["all", "any"]))
        steps[name] = {"agent": TOOL, "needs": needs, "join": join}
    return steps


def driven(plan: Plan, fates: dict[str, AgentRunStatus], picks: list[int]) -> dict[str, str]:
    """How the steps end; `picks` says which of those at work ends first."""
    statuses: dict[str, str] = {}
    for pick in picks:
        decision = ready(plan, Progress.within(plan, statuses, {}))
        assert statuses.keys().isdisjoint(decision.dispatch)
        statuses |= dict.fromkeys(decision.skip, _A.SKIPPED)
        statuses |= dict.fromkeys(decision.dispatch, _A.QUEUED)
        at_work = sorted(name for name, status in statuses.items() if status == _A.QUEUED)
        assert plan.strategy != "sequential" or len(at_work) <= 1
        if at_work:
            ended = at_work[pick % len(at_work)]
            statuses[ended] = fates[ended]
        elif decision.is_settled and not decision.skip:
            break
    return statuses


@given(
    graph=graphs(),
    failing=st.sets(st.sampled_from(NAMES)),
    picks=st.lists(st.integers(0, 9), min_size=30, max_size=30),
)
def test_parts_end_alike_whatever_the_strategy_and_the_order(
    graph: dict[str, Any], failing: set[str], picks: list[int]
) -> None:
    fates = {name: _A.FAILED if name in failing else _A.COMPLETED for name in graph}
    endings = []
    for strategy in ("sequential", "levels", "adaptive"):
        spec = {"name": "x", "strategy": strategy, "failure": {"mode": "partial"}, "steps": graph}
        endings.append(driven(compile_plan(spec_from_mapping(spec), {}), fates, picks))

    assert all(set(ending) == set(graph) for ending in endings)
    assert all(set(ending.values()) <= TERMINAL_AGENT_RUN for ending in endings)
    assert endings[0] == endings[1] == endings[2]
