"""Whether what agents hand out stays theirs: in its place, within its depth and its money."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final
from uuid import UUID

from orchestrator.chaos.evidence import Evidence, Row
from orchestrator.chaos.oracle import COMPLETED, MAX_DEPTH

_DELEGATED: Final = "delegated"


def delegates_belong(evidence: Evidence) -> Iterator[str]:
    """Whatever was handed out stands below who handed it out, all of it and once."""
    for rows in evidence.agent_runs.values():
        known = {row["id"]: row for row in rows}
        for row in rows:
            above = known.get(row["parent_id"])
            if row["parent_id"] is not None and above is None:
                yield f"{row['step']} of run {row['run_id']} stands below nothing"
        below = Counter(row["parent_id"] for row in rows)
        for standing in _standing(rows):
            by = known.get(standing["parent_id"])
            if by is not None:
                yield from _is_whole(standing, by, below, evidence)


def _is_whole(
    standing: Row, by: Row, below: Mapping[UUID, int], evidence: Evidence
) -> Iterator[str]:
    name = f"{standing['step']} of run {standing['run_id']}"
    if standing["step"] != f"{by['step']}.{standing['added']['number']}":
        yield f"{name} stands below {by['step']}"
    planned = len(standing["added"]["plan"]["steps"])
    if standing["status"] == COMPLETED and below[standing["id"]] != planned:
        yield f"{name} has {below[standing['id']]} steps, and {planned} were handed out"
    tried = [attempt["outcome"] for attempt in evidence.attempts[by["id"]]]
    if tried.count(_DELEGATED) < below[by["id"]]:
        yield f"{by['step']} of run {by['run_id']} handed out more than its attempts did"


def depth_is_kept(evidence: Evidence) -> Iterator[str]:
    """Whatever was added to a run says rightly how deep it is, and is no deeper than it may be."""
    for rows in evidence.agent_runs.values():
        known = {row["id"]: row for row in rows}
        for row in rows:
            if row["added"] is None:
                continue
            depth = 1 + sum(above["added"] is not None for above in _above(row, known))
            if row["added"]["depth"] != depth or depth > MAX_DEPTH:
                told = row["added"]["depth"]
                yield f"{row['step']} of run {row['run_id']} is {depth} deep and says {told}"


def delegates_keep_their_budgets(evidence: Evidence) -> Iterator[str]:
    """Nothing that was handed out cost more than it might, nor set aside more for a call."""
    for rows in evidence.agent_runs.values():
        caps = {standing["id"]: _caps(standing) for standing in _standing(rows)}
        for row in rows:
            name = row["step"].rpartition(".")[2]
            cap = caps.get(row["parent_id"], {}).get(name)
            if cap is None:
                continue
            if row["cost_nano"] > cap:
                yield f"{row['step']} of run {row['run_id']} cost {row['cost_nano']} of {cap}"
            for call in evidence.calls[row["id"]]:
                if call["hold_nano"] > cap:
                    yield f"call {call['id']} of {row['step']} held {call['hold_nano']} of {cap}"


def _standing(rows: Any) -> list[Row]:
    """What stands for the steps that an agent has handed out in a turn."""
    return [row for row in rows if row["added"] is not None and "awaited" in row["added"]]


def _caps(standing: Row) -> dict[str, int | None]:
    return {step["name"]: step.get("max_cost_nano") for step in standing["added"]["plan"]["steps"]}


def _above(row: Row, known: Mapping[UUID, Row]) -> Iterator[Row]:
    while row["parent_id"] in known:
        row = known[row["parent_id"]]
        yield row
