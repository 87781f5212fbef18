"""How the runs of a batch stand together."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from orchestrator.core.state import LIVE_RUN, RunStatus


class BatchStatus(StrEnum):
    PENDING = "pending"  # none of its runs has begun
    RUNNING = "running"  # some have, and not all have ended
    COMPLETED = "completed"  # all have completed
    PARTIALLY_COMPLETED = "partially_completed"  # all have ended, some of them with a result
    FAILED = "failed"  # all have ended, none with a result, and not all cancelled
    CANCELLED = "cancelled"  # all were cancelled


_WITH_RESULT = frozenset({RunStatus.COMPLETED, RunStatus.PARTIALLY_COMPLETED})


def batch_status(counts: Mapping[str, int]) -> BatchStatus:
    """The one status of runs counted by theirs. No run at all, if all were deleted: completed."""
    found = {RunStatus(status) for status, count in counts.items() if count}
    if found & LIVE_RUN:
        return BatchStatus.PENDING if found == {RunStatus.PENDING} else BatchStatus.RUNNING
    if found <= {RunStatus.COMPLETED}:
        return BatchStatus.COMPLETED
    if found & _WITH_RESULT:
        return BatchStatus.PARTIALLY_COMPLETED
    return BatchStatus.CANCELLED if found == {RunStatus.CANCELLED} else BatchStatus.FAILED


def has_ended(status: BatchStatus) -> bool:
    return status not in (BatchStatus.PENDING, BatchStatus.RUNNING)
