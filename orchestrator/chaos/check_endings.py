"""Whether every run has ended as its graph demands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from orchestrator.chaos.evidence import Evidence, Row
from orchestrator.chaos.flows import asked_as, place_of, said
from orchestrator.chaos.oracle import COMPLETED, FAILED, Ending, ending, run_output
from orchestrator.chaos.traffic import Started
from orchestrator.core.state import TERMINAL_RUN
from orchestrator.services.sweep import MAX_LOST


def runs_end_right(evidence: Evidence) -> Iterator[str]:
    """Every run has ended, in the state and with the outputs that its graph demands."""
    for run in evidence.started:
        row = evidence.runs[run.id]
        name = f"{run.marker} ({run.flow.name}, {run.flow.strategy})"
        if row["status"] not in TERMINAL_RUN:
            yield f"{name} is {row['status']}"
            continue
        expected = ending(
            run.flow, run.marker, leaf=evidence.leaf, lost=_given_up(evidence, run.id)
        )
        yield from _places_right(evidence, run, name)
        yield from _asked_enough(evidence, run, expected, name)
        if _stopped(evidence, run) or run.flow.deadline:
            yield from _stopped_right(evidence, run, expected, name)
        elif expected.status == FAILED and run.flow.mode == "fail_fast":
            yield from _part_of(evidence, run, expected, name, status=FAILED)
        else:
            yield from _whole(evidence, run, expected, name)


def _places_right(evidence: Evidence, run: Started, name: str) -> Iterator[str]:
    """Items of maps and steps of loops answered what they were asked."""
    for row in evidence.agent_runs[run.id]:
        is_part = row["parent_id"] is not None and row["kind"] == "agent"
        is_asked = is_part and row["uses_model"] and row["status"] == COMPLETED
        if is_asked and _answer_of(row)["said"] != said(run.marker, asked_as(row["step"])):
            yield f"{name}: {row['step']} gave {row['output']!r}"


def _asked_enough(evidence: Evidence, run: Started, expected: Ending, name: str) -> Iterator[str]:
    """What completed took as many answers of its model as it had to, one for each turn."""
    for row in evidence.steps(run):
        if row["status"] != COMPLETED or not row["uses_model"] or row["kind"] != "agent":
            continue
        calls = evidence.calls[row["id"]]
        turns = [
            call["turn"]
            for call in calls
            if call["status"] == "closed" and call["attempt"] > row["forgiven"]
        ]
        if sorted(turns) != list(range(1, expected.turns[place_of(row["step"])] + 1)):
            yield f"{name}: {row['step']} took the turns {turns}"


def _answer_of(agent_run: Row) -> Any:
    """What its model answered; an agent that is made for a task gives it as text."""
    output = agent_run["output"]
    return json.loads(output) if isinstance(output, str) else output


def _given(agent_run: Row) -> Any:
    """Its output, without who decided and when."""
    output = agent_run["output"]
    if agent_run["kind"] == "approval" and output is not None:
        return {"decision": output["decision"]}
    return output


def _given_up(evidence: Evidence, run: UUID) -> frozenset[str]:
    """Places in it, and in the runs that steps of it stand for: `sub/top`."""
    found: set[str] = set()
    for row in evidence.agent_runs[run]:
        if _deaths(evidence, row) >= MAX_LOST:
            found.add(place_of(row["step"]))
        for below in evidence.runs_below(row):
            found |= {
                f"{place_of(row['step'])}/{place}" for place in _given_up(evidence, below["id"])
            }
    return frozenset(found)


def _deaths(evidence: Evidence, agent_run: Row) -> int:
    """How many workers died of it, since a person had it tried anew."""
    return sum(
        attempt["outcome"] == "lost" and attempt["number"] > agent_run["forgiven"]
        for attempt in evidence.attempts[agent_run["id"]]
    )


def _stopped(evidence: Evidence, run: Started) -> bool:
    """Whether somebody had it cancelled, and nobody took it up again."""
    told = [row["type"] for row in evidence.events[run.id]]
    last = max((i for i, kind in enumerate(told) if kind == "run.retried"), default=-1)
    return any(
        row["type"] == "run.stopping" and row["data"]["status"] == "cancelled"
        for row in evidence.events[run.id][last + 1 :]
    )


def _stopped_right(evidence: Evidence, run: Started, expected: Ending, name: str) -> Iterator[str]:
    status = "cancelled" if _stopped(evidence, run) else FAILED
    yield from _part_of(evidence, run, expected, name, status=status)


def _part_of(
    evidence: Evidence, run: Started, expected: Ending, name: str, *, status: str
) -> Iterator[str]:
    """What ended by itself ended as it had to; the rest was called back."""
    row = evidence.runs[run.id]
    if row["status"] != status:
        yield f"{name} is {row['status']}, not {status}: {row['status_reason']}"
    for agent_run in evidence.steps(run):
        step, is_ended = place_of(agent_run["step"]), agent_run["status"] in (COMPLETED, FAILED)
        if is_ended and agent_run["status"] != expected.steps[step]:
            yield f"{name}: {step} is {agent_run['status']}, not {expected.steps[step]}"
        if is_ended and _given(agent_run) != expected.outputs[step]:
            yield f"{name}: {step} gave {agent_run['output']!r}"


def _whole(evidence: Evidence, run: Started, expected: Ending, name: str) -> Iterator[str]:
    row = evidence.runs[run.id]
    if row["status"] != expected.status:
        yield f"{name} is {row['status']}, not {expected.status}: {row['status_reason']}"
    for agent_run in evidence.steps(run):
        step = place_of(agent_run["step"])
        if agent_run["status"] != expected.steps[step]:
            yield (
                f"{name}: {step} is {agent_run['status']}, not {expected.steps[step]}: "
                f"{agent_run['status_reason']}"
            )
        elif _given(agent_run) != expected.outputs[step]:
            yield f"{name}: {step} gave {agent_run['output']!r}, not {expected.outputs[step]!r}"
    if row["output"] != run_output(run.flow, expected):
        yield f"{name} gave {row['output']!r}"
