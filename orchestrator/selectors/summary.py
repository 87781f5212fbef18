"""A run in short: for the terminal, and as the one JSON object that scripts read."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import QuerySet, Sum
from django.utils import timezone

from costs.core.money import format_usd
from orchestrator.core.places import root_of
from orchestrator.core.state import TERMINAL_AGENT_RUN
from orchestrator.models import AgentRun, Run
from orchestrator.selectors.runs import ROOT, StepSummary, reason_now, step_summaries
from orchestrator.selectors.waits import Wait, waits_of

MAX_ADDED_LINES = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLine:
    """`seconds` runs on while the step does; None before it has begun.

    `progress` is how many of a map's items, or of a loop's steps, have ended, such as 3/5.
    """

    name: str
    status: str
    progress: str
    attempt: int
    wait: Wait | None
    model: str
    worker: str
    input_tokens: int
    output_tokens: int
    cost_nano: int
    seconds: float | None
    error: str
    depth: int = 0  # below the steps of the workflow: of those, the sums have it already


def run_state(run_id: UUID) -> tuple[str, str]:
    """Status, and the sentence why."""
    fields = ("status", "status_reason", "stop_wanted", "stop_reason")
    run = Run.objects.only(*fields).get(id=run_id)
    return run.status, reason_now(run)


def step_lines(run_id: UUID) -> list[StepLine]:
    """One for each step; what it stands for is counted together."""
    summaries = step_summaries(run_id)
    rows = AgentRun.objects.filter(run_id=run_id)
    own = {row.step: row for row in rows.filter(parent_id=None).defer("prompt", "output")}
    parts = {row["root"]: row for row in _of_parts(rows)}
    added = _added(rows)
    return [
        line
        for step in summaries
        for line in (
            _line(step, own[step.name], parts.get(step.name)),
            *added.get(step.name, ()),
        )
    ]


def _added(rows: QuerySet[AgentRun]) -> dict[str, list[StepLine]]:
    """A line for each step that agents have added or delegated, by the step that they belong to."""
    found: dict[str, list[StepLine]] = {}
    some = rows.filter(added_by__isnull=False).exclude(kind="steps").order_by("id")
    listed = list(some.defer("prompt", "output")[:MAX_ADDED_LINES])
    waits = waits_of(listed)
    for row in listed:
        found.setdefault(root_of(row.step), []).append(_added_line(row, waits.get(row.id)))
    return found


def _added_line(row: AgentRun, wait: Wait | None) -> StepLine:
    return StepLine(
        name=row.step,
        status=row.status,
        progress="",
        attempt=row.attempt,
        wait=wait,
        model=row.model,
        worker=row.worker.partition("@")[0],
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        cost_nano=row.cost_nano,
        seconds=_seconds(row.started_at, row.finished_at or timezone.now()),
        error=(row.error or {}).get("message", ""),
        depth=1,
    )


def _of_parts(rows: QuerySet[AgentRun]) -> Iterable[Mapping[str, Any]]:
    """What the agent runs that a step stands for took together."""
    sums = {name: Sum(name) for name in ("input_tokens", "output_tokens")}
    parts = rows.filter(parent_id__isnull=False).order_by().annotate(root=ROOT)
    return parts.values("root").annotate(**sums)


def run_summary(run_id: UUID) -> dict[str, Any]:
    """What `make demo ONCE=1` prints: what ran where, on which model, and what it cost."""
    run = Run.objects.get(id=run_id)
    agents = list(AgentRun.objects.filter(run_id=run_id).order_by("position"))
    called = [agent for agent in agents if agent.llm_calls]
    return {
        "run_id": str(run.id),
        "status": run.status,
        "steps": {agent.step: agent.status for agent in agents if agent.parent_id is None},
        "llm_calls": sum(agent.llm_calls for agent in agents),
        "input_tokens": sum(agent.input_tokens for agent in agents),
        "output_tokens": sum(agent.output_tokens for agent in agents),
        "output_chars": sum(_length(agent.output) for agent in called),
        "model": ", ".join(sorted({agent.model for agent in called})),
        "workers": sorted({agent.worker for agent in agents if agent.worker}),
        "cost_usd": format_usd(sum(agent.cost_nano for agent in agents)),
        "duration_s": _seconds(run.started_at, run.finished_at),
    }


def _line(step: StepSummary, row: AgentRun, parts: Mapping[str, Any] | None) -> StepLine:
    ended = sum(count for status, count in step.counts.items() if status in TERMINAL_AGENT_RUN)
    below: Mapping[str, int] = parts or {"input_tokens": 0, "output_tokens": 0}
    return StepLine(
        name=row.step,
        status=step.status,
        progress=f"{ended}/{sum(step.counts.values())}" if parts else "",
        attempt=row.attempt,
        wait=step.waiting,
        model=row.model,
        worker=row.worker.partition("@")[0],
        # Who delegates has asked its model too.
        input_tokens=row.input_tokens + below["input_tokens"],
        output_tokens=row.output_tokens + below["output_tokens"],
        cost_nano=step.cost_nano,
        seconds=_seconds(row.started_at, row.finished_at or timezone.now()),
        error=(row.error or {}).get("message", ""),
    )


def _seconds(begin: Any, end: Any) -> float | None:
    return round((end - begin).total_seconds(), 3) if begin and end else None


def _length(output: Any) -> int:
    return len(output) if isinstance(output, str) else len(str(output or ""))
