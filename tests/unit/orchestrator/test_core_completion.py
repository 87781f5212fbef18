import pytest

from orchestrator.core.completion import Outcome, verdict
from orchestrator.core.spec import FailurePolicy
from orchestrator.core.state import AgentRunStatus, RunStatus

PARTIAL = FailurePolicy(mode="partial")


def outcomes(text: str, priority: int = 5) -> list[Outcome]:
    """One letter per step: c completed, f failed, s skipped, x cancelled, b out of budget."""
    letters = {
        "c": AgentRunStatus.COMPLETED,
        "f": AgentRunStatus.FAILED,
        "s": AgentRunStatus.SKIPPED,
        "x": AgentRunStatus.CANCELLED,
        "b": AgentRunStatus.BUDGET_EXCEEDED,
    }
    return [
        Outcome(name=f"s{index}", status=letters[letter], priority=priority, reason="timed out")
        for index, letter in enumerate(text)
    ]


@pytest.mark.parametrize(
    ("steps", "policy", "status", "reason"),
    [
        ("ccc", FailurePolicy(), "completed", "3 of 3 steps completed"),
        ("cs", FailurePolicy(), "completed", "1 of 2 steps completed"),
        ("cfs", FailurePolicy(), "failed", "`s1` failed: timed out"),
        ("cfs", PARTIAL, "partially_completed", "1 of 3 steps failed, 1 completed"),
        ("cf", PARTIAL, "partially_completed", "1 of 2 steps failed, 1 completed"),
        ("cff", PARTIAL, "failed", "more than the 50% that the workflow accepts"),
        ("fss", PARTIAL, "failed", "1 of 3 steps failed and none completed"),
        ("cbs", PARTIAL, "budget_exceeded", "`s1` ran out of budget"),
        ("cx", PARTIAL, "cancelled", "1 of 2 steps cancelled"),
        ("ccf", FailurePolicy(mode="partial", max_failed_ratio=0.2), "failed", "20%"),
    ],
)
def test_verdict(steps: str, policy: FailurePolicy, status: str, reason: str) -> None:
    found = verdict(outcomes(steps), policy)

    assert found.status == RunStatus(status)
    assert reason in found.reason


def test_failed_critical_step_fails_the_run() -> None:
    steps = [*outcomes("ccc"), Outcome(name="pay", status=AgentRunStatus.FAILED, priority=8)]

    found = verdict(steps, PARTIAL)

    assert found.status is RunStatus.FAILED
    assert "`pay` failed; its priority 8 makes it critical (from 8)" in found.reason
