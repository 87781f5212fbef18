"""The states of runs and agent runs, and the only ways between them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeVar

from orchestrator.core.errors import IllegalTransitionError


class RunStatus(StrEnum):
    PENDING = "pending"  # accepted, nothing handed out yet
    RUNNING = "running"  # steps are handed out or at work
    PAUSED = "paused"  # nothing new is handed out until someone resumes it
    COMPLETED = "completed"  # every step that had to run has completed
    PARTIALLY_COMPLETED = "partially_completed"  # some steps failed, within the failure policy
    FAILED = "failed"  # a failure that the failure policy does not accept
    CANCELLED = "cancelled"  # stopped by a person or by the tenant's suspension
    BUDGET_EXCEEDED = "budget_exceeded"  # stopped because money ran out


class AgentRunStatus(StrEnum):
    PENDING = "pending"  # its needs are not settled
    READY = "ready"  # due, but not yet published to the workers
    QUEUED = "queued"  # published, not yet claimed
    RUNNING = "running"  # claimed by a worker that holds a lease
    WAITING = "waiting"  # holds no worker until its reason is gone or its time has come
    COMPLETED = "completed"  # has its output
    FAILED = "failed"  # will not be tried again
    SKIPPED = "skipped"  # never ran, because its needs failed or its condition was false
    CANCELLED = "cancelled"  # stopped with its run
    BUDGET_EXCEEDED = "budget_exceeded"  # a budget refused what it needed to go on


class WaitingReason(StrEnum):
    RATE_LIMITED = "rate_limited"  # a rate limit says when it may go
    BUDGET = "budget"  # a budget must be raised
    RETRY = "retry"  # the pause before the next attempt
    APPROVAL = "approval"  # a person decides
    DELAY = "delay"  # its author asked for a pause
    DELEGATION = "delegation"  # what it has handed to others, and goes on with
    BATCH = "batch"  # the answer that a batch of its provider's is to bring
    PAUSED = "paused"  # its run is paused
    # Of those that are due, and wait for others to make room:
    WORKER = "worker"  # published, and no worker is free
    TENANT_SHARE = "tenant_share"  # as many are at work as the tenant's share of the workers
    MAX_PARALLEL = "max_parallel"  # as many are at work as its run, or its map, lets through


class RunWait(StrEnum):
    """For what a run waits as a whole, beside being paused, before anything of it is due."""

    TURN = "turn"  # as many runs of its tenant or its workflow are under way as may be
    CONTROL_WORKER = "control_worker"  # nobody has begun it yet


_R, _A = RunStatus, AgentRunStatus

RUN_TRANSITIONS: Final[Mapping[RunStatus, frozenset[RunStatus]]] = {
    _R.PENDING: frozenset({_R.RUNNING, _R.PAUSED, _R.FAILED, _R.CANCELLED, _R.BUDGET_EXCEEDED}),
    _R.RUNNING: frozenset(
        {
            _R.PAUSED,
            _R.COMPLETED,
            _R.PARTIALLY_COMPLETED,
            _R.FAILED,
            _R.CANCELLED,
            _R.BUDGET_EXCEEDED,
        }
    ),
    _R.PAUSED: frozenset({_R.PENDING, _R.RUNNING, _R.FAILED, _R.CANCELLED, _R.BUDGET_EXCEEDED}),
    _R.COMPLETED: frozenset(),
    # Taken up again by a person, who has what did not complete tried once more.
    _R.PARTIALLY_COMPLETED: frozenset({_R.RUNNING}),
    _R.FAILED: frozenset({_R.RUNNING}),
    _R.CANCELLED: frozenset({_R.RUNNING}),
    _R.BUDGET_EXCEEDED: frozenset({_R.RUNNING}),
}

_STOPS = frozenset({_A.FAILED, _A.CANCELLED, _A.BUDGET_EXCEEDED})

AGENT_RUN_TRANSITIONS: Final[Mapping[AgentRunStatus, frozenset[AgentRunStatus]]] = {
    # Straight to queued when a step is made ready and published by one statement; to waiting for
    # a delay or an approval; to running for a map, which no worker claims; to failed when its
    # condition raises.
    _A.PENDING: frozenset(
        {_A.READY, _A.QUEUED, _A.RUNNING, _A.WAITING, _A.SKIPPED, _A.FAILED, _A.CANCELLED}
    ),
    # Claimed straight away when an older message for the same agent run is still on its way.
    _A.READY: frozenset({_A.QUEUED, _A.RUNNING, _A.WAITING, _A.SKIPPED}) | _STOPS,
    _A.QUEUED: frozenset({_A.READY, _A.RUNNING, _A.WAITING, _A.SKIPPED}) | _STOPS,
    # Back to ready or queued when the lease of its worker runs out.
    _A.RUNNING: frozenset({_A.READY, _A.QUEUED, _A.WAITING, _A.COMPLETED}) | _STOPS,
    _A.WAITING: frozenset({_A.READY, _A.QUEUED, _A.COMPLETED, _A.SKIPPED}) | _STOPS,
    _A.COMPLETED: frozenset(),
    # With its run, when a person has it taken up again.
    _A.FAILED: frozenset({_A.PENDING}),
    _A.SKIPPED: frozenset({_A.PENDING}),
    _A.CANCELLED: frozenset({_A.PENDING}),
    _A.BUDGET_EXCEEDED: frozenset({_A.PENDING}),
}

LIVE_RUN: Final = frozenset({_R.PENDING, _R.RUNNING, _R.PAUSED})
TERMINAL_RUN: Final = frozenset(RunStatus) - LIVE_RUN
TERMINAL_AGENT_RUN: Final = frozenset(
    {_A.COMPLETED, _A.FAILED, _A.SKIPPED, _A.CANCELLED, _A.BUDGET_EXCEEDED}
)

StatusT = TypeVar("StatusT", RunStatus, AgentRunStatus)


def is_terminal(status: RunStatus | AgentRunStatus) -> bool:
    terminal: frozenset[str] = TERMINAL_RUN | TERMINAL_AGENT_RUN
    return status in terminal


def targets(source: StatusT) -> frozenset[StatusT]:
    """The states that may follow `source`."""
    if isinstance(source, RunStatus):
        return RUN_TRANSITIONS[source]
    return AGENT_RUN_TRANSITIONS[source]


def sources(target: StatusT) -> frozenset[StatusT]:
    """The states that `target` may follow: what an UPDATE puts into its WHERE."""
    return frozenset(status for status in type(target) if target in targets(status))


def check_transition(source: StatusT, target: StatusT) -> None:
    """Raises IllegalTransitionError unless `target` may follow `source`."""
    if target not in targets(source):
        kind = "run" if isinstance(source, RunStatus) else "agent run"
        raise IllegalTransitionError(kind, source, target)
