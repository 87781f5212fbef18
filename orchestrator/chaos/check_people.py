"""Whether what people were told holds: their decisions, their batches, and the time of day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from orchestrator.chaos.evidence import Evidence, Row
from orchestrator.core.state import TERMINAL_RUN

_STATUS: Final = {"approve": "approved", "reject": "rejected", "expire": "expired"}
# What lies in the future by its nature.
_PLANNED: Final = frozenset({"due_at", "deadline_at", "lease_until", "expires_at"})
_SLACK_SECONDS: Final = 5.0


def approvals_are_decided_once(evidence: Evidence) -> Iterator[str]:
    """Each question has one answer, which one person gave, and none after its time."""
    runs = {run.id: run for run in evidence.started}
    for approval in evidence.approvals:
        run = runs[approval["run_id"]]
        vertex = next(v for v in run.flow.vertices if v.name == approval["step"])
        name = f"{run.marker} {approval['step']}"
        told = [
            row
            for row in evidence.events[run.id]
            if row["type"] == "approval.decided"
            and row["data"]["approval_id"] == str(approval["id"])
        ]
        is_decided = approval["status"] in _STATUS.values()
        if len(told) != is_decided:
            yield f"{name} is {approval['status']}, its history has {len(told)} decisions"
        if is_decided and approval["status"] != _STATUS[vertex.verdict]:
            yield f"{name} is {approval['status']}, but people say {vertex.verdict}"
        yield from _promises(evidence, approval, name)


def _promises(evidence: Evidence, approval: Row, name: str) -> Iterator[str]:
    accepted = evidence.decided.get(approval["id"], 0)
    if accepted > 1:
        yield f"{name}: {accepted} people were told that their answer holds"
    if accepted and approval["status"] not in ("approved", "rejected"):
        yield f"{name}: somebody's answer was to hold, but it is {approval['status']}"
    if approval["status"] == "open" and evidence.runs[approval["run_id"]]["status"] in TERMINAL_RUN:
        yield f"{name} is open, although its run has ended"


def batches_are_whole(evidence: Evidence) -> Iterator[str]:
    """Batches were started once, with all of their runs, and cancelled where they were to be."""
    of_batch: Counter[Any] = Counter(row["batch_id"] for row in evidence.runs.values())
    for batch in evidence.batches:
        if of_batch[batch["id"]] != batch["size"]:
            yield f"batch {batch['id']} of {batch['size']} has {of_batch[batch['id']]} runs"
    markers = Counter(
        row["metadata"].get("marker") for row in evidence.runs.values() if row["batch_id"]
    )
    yield from (f"{marker} was started {n} times" for marker, n in markers.items() if n > 1)
    for cancelled in evidence.cancelled_batches:
        runs = [row["id"] for row in evidence.runs.values() if row["batch_id"] == cancelled]
        told = [event["type"] for run in runs for event in evidence.events[run]]
        if "run.stopping" not in told:
            yield f"batch {cancelled} was cancelled, but none of its runs"


def clocks_do_not_matter(evidence: Evidence) -> Iterator[str]:
    """No row bears the time of a worker whose clock is wrong."""
    began, ended = evidence.span
    for row in _rows(evidence):
        for name, value in row.items():
            if not isinstance(value, datetime) or name in _PLANNED:
                continue
            if not began - _SLACK_SECONDS <= value.timestamp() <= ended + _SLACK_SECONDS:
                yield f"{name} of {row['id']} ({row.get('step') or row.get('type')}) is {value}"


def _rows(evidence: Evidence) -> Iterator[Row]:
    yield from evidence.runs.values()
    yield from evidence.approvals
    yield from evidence.batches
    for table in (evidence.agent_runs, evidence.attempts, evidence.calls, evidence.events):
        for rows in table.values():
            yield from rows
