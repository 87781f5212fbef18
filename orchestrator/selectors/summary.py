"""A run in short: for the terminal, and as the one JSON object that scripts read."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.utils import timezone

from costs.core.money import format_usd
from orchestrator.models import AgentRun, Run


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLine:
    """`seconds` runs on while the step does; None before it has begun."""

    name: str
    status: str
    model: str
    worker: str
    input_tokens: int
    output_tokens: int
    cost_nano: int
    seconds: float | None
    error: str


def run_state(run_id: UUID) -> tuple[str, str]:
    """Status, and the sentence why."""
    return Run.objects.values_list("status", "status_reason").get(id=run_id)


def step_lines(run_id: UUID) -> list[StepLine]:
    rows = AgentRun.objects.filter(run_id=run_id).order_by("position")
    return [_line(row) for row in rows.defer("prompt", "output")]


def run_summary(run_id: UUID) -> dict[str, Any]:
    """What `make demo ONCE=1` prints: what ran where, on which model, and what it cost."""
    run = Run.objects.get(id=run_id)
    agents = list(AgentRun.objects.filter(run_id=run_id).order_by("position"))
    called = [agent for agent in agents if agent.llm_calls]
    return {
        "run_id": str(run.id),
        "status": run.status,
        "steps": {agent.step: agent.status for agent in agents},
        "llm_calls": sum(agent.llm_calls for agent in agents),
        "input_tokens": sum(agent.input_tokens for agent in agents),
        "output_tokens": sum(agent.output_tokens for agent in agents),
        "output_chars": sum(_length(agent.output) for agent in called),
        "model": ", ".join(sorted({agent.model for agent in called})),
        "workers": sorted({agent.worker for agent in agents if agent.worker}),
        "cost_usd": format_usd(sum(agent.cost_nano for agent in agents)),
        "duration_s": _seconds(run.started_at, run.finished_at),
    }


def _line(row: AgentRun) -> StepLine:
    return StepLine(
        name=row.step,
        status=row.status,
        model=row.model,
        worker=row.worker.partition("@")[0],
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        cost_nano=row.cost_nano,
        seconds=_seconds(row.started_at, row.finished_at or timezone.now()),
        error=(row.error or {}).get("message", ""),
    )


def _seconds(begin: Any, end: Any) -> float | None:
    return round((end - begin).total_seconds(), 3) if begin and end else None


def _length(output: Any) -> int:
    return len(output) if isinstance(output, str) else len(str(output or ""))
