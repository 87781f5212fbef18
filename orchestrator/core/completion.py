"""How a run ended, judged from how its steps did."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from orchestrator.core.spec import DEFAULT_PRIORITY, FailurePolicy
from orchestrator.core.state import AgentRunStatus, RunStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one step ended. `reason` is one sentence without a full stop."""

    name: str
    status: AgentRunStatus
    priority: int = DEFAULT_PRIORITY
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    status: RunStatus
    reason: str


def verdict(outcomes: Iterable[Outcome], policy: FailurePolicy) -> Verdict:
    """The run's state once every step is settled, with one sentence why."""
    by_status = _grouped(outcomes)
    total = sum(map(len, by_status.values()))
    completed = by_status[AgentRunStatus.COMPLETED]
    failed = by_status[AgentRunStatus.FAILED]
    out_of_money = by_status[AgentRunStatus.BUDGET_EXCEEDED]
    if out_of_money:
        return Verdict(status=RunStatus.BUDGET_EXCEEDED, reason=_told(out_of_money[0]))
    if failed:
        return _with_failures(failed, completed=len(completed), total=total, policy=policy)
    if by_status[AgentRunStatus.CANCELLED]:
        count = len(by_status[AgentRunStatus.CANCELLED])
        return Verdict(status=RunStatus.CANCELLED, reason=f"{count} of {_steps(total)} cancelled")
    return Verdict(
        status=RunStatus.COMPLETED, reason=f"{len(completed)} of {_steps(total)} completed"
    )


def _grouped(outcomes: Iterable[Outcome]) -> Mapping[AgentRunStatus, list[Outcome]]:
    by_status: dict[AgentRunStatus, list[Outcome]] = {status: [] for status in AgentRunStatus}
    for outcome in outcomes:
        by_status[outcome.status].append(outcome)
    return by_status


def _with_failures(
    failed: list[Outcome], *, completed: int, total: int, policy: FailurePolicy
) -> Verdict:
    if policy.mode == "fail_fast":
        return Verdict(status=RunStatus.FAILED, reason=_told(failed[0]))
    critical = [step for step in failed if step.priority >= policy.critical_priority]
    if critical:
        reason = (
            f"{_told(critical[0])}; its priority {critical[0].priority} makes it critical "
            f"(from {policy.critical_priority})"
        )
        return Verdict(status=RunStatus.FAILED, reason=reason)
    count = f"{len(failed)} of {_steps(total)} failed"
    if len(failed) > policy.max_failed_ratio * total:
        reason = f"{count}, more than the {policy.max_failed_ratio:.0%} that the workflow accepts"
        return Verdict(status=RunStatus.FAILED, reason=reason)
    if not completed:
        return Verdict(status=RunStatus.FAILED, reason=f"{count} and none completed")
    return Verdict(status=RunStatus.PARTIALLY_COMPLETED, reason=f"{count}, {completed} completed")


def _told(step: Outcome) -> str:
    verb = "ran out of budget" if step.status is AgentRunStatus.BUDGET_EXCEEDED else "failed"
    return f"`{step.name}` {verb}" + (f": {step.reason}" if step.reason else "")


def _steps(count: int) -> str:
    return f"{count} step{'s' if count != 1 else ''}"
