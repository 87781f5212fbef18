"""A run's metrics document: what each of its agent runs took, from the rows alone.

A fixed number of queries, whatever the run's size, and plain values ready for JSON.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

from django.db import connection
from django.db.models import DurationField, ExpressionWrapper, F, Q, Sum

from costs.core.money import format_usd
from orchestrator.core.metrics import Work, performance
from orchestrator.core.places import defined
from orchestrator.core.state import AgentRunStatus
from orchestrator.models import AgentRun, Attempt, CallStatus, LlmCall, Run
from orchestrator.selectors.exchange import messages_handled
from orchestrator.selectors.runs import reason_now

Document: TypeAlias = dict[str, Any]
Row: TypeAlias = Mapping[str, Any]

_SUMS = ("cost_nano", "input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")
_COLUMNS = (
    *("id", "step", "kind", "agent", "role", "status", "attempt", "worker", "provider", "model"),
    *("llm_calls", "queued_at", "started_at", "finished_at", *_SUMS),
)
_SYSTEM = ("cpu_percent", "memory_percent", "memory_used_mb")
# The types of agents by the places of their steps, those in loops included.
_TYPES = """
WITH RECURSIVE defined AS (
    SELECT s.name, s.config, s.loop
      FROM workflow_version v,
           json_to_recordset(v.plan -> 'steps') AS s (name text, config json, loop json)
     WHERE v.id = %s
    UNION ALL
    SELECT d.name || '.' || s.name, s.config, s.loop
      FROM defined d,
           json_to_recordset(d.loop -> 'body' -> 'steps') AS s (name text, config json, loop json))
SELECT name, config ->> 'type' FROM defined
"""
# How long each agent run stayed queued or waiting, and for which reason. One that still does
# has no later event: until now, by the clock that wrote the events.
_STAYS = """
SELECT agent_run_id, type, reason, SUM(EXTRACT(epoch FROM until - at))::float8
  FROM (SELECT agent_run_id, at, type, COALESCE(data ->> 'reason', 'unknown') AS reason,
               COALESCE(LEAD(at) OVER (PARTITION BY agent_run_id ORDER BY id),
                        clock_timestamp()) AS until
          FROM run_event
         WHERE run_id = %s AND agent_run_id IS NOT NULL AND type LIKE 'agent.%%') e
 WHERE type IN ('agent.queued', 'agent.waiting')
 GROUP BY 1, 2, 3
"""


@dataclass(slots=True, kw_only=True)
class _Stay:
    queued_seconds: float | None = None
    waits: dict[str, float] = field(default_factory=dict)  # seconds by reason


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What other tables tell of agent runs, by their id; types by where steps are defined."""

    types: Mapping[str, str | None]
    attempts: Mapping[UUID, Attempt]
    calls: Mapping[UUID, Row]
    stays: Mapping[UUID, _Stay]
    messages: Mapping[UUID, tuple[int, int]]  # sent and read


def run_metrics(run: Run) -> Document:
    known = _Known(
        types=_types(run),
        attempts=_last_attempts(run),
        calls=_calls(run),
        stays=_stays(run),
        messages=messages_handled(run),
    )
    rows = [_up_to_date(row, known) for row in _agent_runs(run)]
    return {
        "session_id": str(run.id),
        "start_time": _iso(run.started_at),
        "end_time": _iso(run.finished_at),
        "duration_s": _rounded(_seconds(run.started_at, run.finished_at), 3),
        "status": run.status,
        "status_reason": reason_now(run),
        "tasks": [_task(row, known) for row in rows],
        "total_tokens": _tokens({name: sum(row[name] for row in rows) for name in _SUMS}),
        "total_cost_usd": format_usd(sum(row["cost_nano"] for row in rows)),
    }


def _agent_runs(run: Run) -> Iterable[Row]:
    rows: Iterable[Row] = (
        AgentRun.objects.filter(run=run).order_by("position", "id").values(*_COLUMNS)
    )
    return rows


def _types(run: Run) -> dict[str, str | None]:
    with connection.cursor() as cursor:
        cursor.execute(_TYPES, [run.version_id])
        return dict(cursor.fetchall())


def _last_attempts(run: Run) -> dict[UUID, Attempt]:
    attempts = Attempt.objects.filter(agent_run__run=run).order_by("number")
    shown = attempts.only("agent_run_id", "outcome", "system", "started_at", "finished_at")
    return {attempt.agent_run_id: attempt for attempt in shown}


def _calls(run: Run) -> dict[UUID, Row]:
    took = ExpressionWrapper(F("ended_at") - F("created_at"), output_field=DurationField())
    rows = (
        LlmCall.objects.filter(run=run)
        .order_by()
        .values("agent_run_id")
        .annotate(took=Sum(took, filter=Q(status=CallStatus.CLOSED)), **{n: Sum(n) for n in _SUMS})
    )
    return {row["agent_run_id"]: row for row in rows}


def _stays(run: Run) -> dict[UUID, _Stay]:
    with connection.cursor() as cursor:
        cursor.execute(_STAYS, [run.id])
        rows = cursor.fetchall()
    stays: dict[UUID, _Stay] = {}
    for agent_run_id, kind, reason, seconds in rows:
        stay = stays.setdefault(agent_run_id, _Stay())
        if kind == "agent.waiting":
            stay.waits[reason] = seconds
        else:
            stay.queued_seconds = (stay.queued_seconds or 0.0) + seconds
    return stays


def _up_to_date(row: Row, known: _Known) -> Row:
    """Agent runs are summed up as they end; until then their calls know."""
    calls = known.calls.get(row["id"])
    if row["finished_at"] is not None or calls is None:
        return row
    return {**row, **{name: calls[name] for name in _SUMS}}


def _task(row: Row, known: _Known) -> Document:
    attempt = known.attempts.get(row["id"])
    return {
        "task_id": str(row["id"]),
        "task_type": _type(row, known),
        "name": row["step"],
        "status": row["status"],
        "role": row["role"] or None,
        "attempts": row["attempt"],
        "llm_calls": row["llm_calls"],
        "messages": dict(zip(("sent", "read"), known.messages.get(row["id"], (0, 0)), strict=True)),
        "execution": _execution(row, known.stays.get(row["id"], _Stay())),
        "tokens": _tokens(row),
        "cost_usd": format_usd(row["cost_nano"]),
        "provider": row["provider"] or None,
        "model": row["model"] or None,
        "performance": asdict(performance(_work(row, known, attempt))),
        "system": _system(row, attempt),
    }


def _type(row: Row, known: _Known) -> str:
    """That of the agent; for what only stands for others, or asks a person, its kind."""
    if row["kind"] != "agent":
        return str(row["kind"])
    return known.types.get(defined(row["step"])) or str(row["agent"])


def _execution(row: Row, stay: _Stay) -> Document:
    queued = stay.queued_seconds
    if queued is None:
        queued = _seconds(row["queued_at"], row["started_at"])
    has_run = row["started_at"] is not None
    waits = {reason: _milliseconds(seconds) for reason, seconds in sorted(stay.waits.items())}
    return {
        "start_time": _iso(row["started_at"]),
        "end_time": _iso(row["finished_at"]),
        "duration_ms": _milliseconds(_seconds(row["started_at"], row["finished_at"])),
        "queued_ms": _milliseconds(queued),
        "waiting_ms": _milliseconds(sum(stay.waits.values())) if has_run or waits else None,
        "waiting_reasons_ms": waits,
    }


def _work(row: Row, known: _Known, attempt: Attempt | None) -> Work:
    calls = known.calls.get(row["id"])
    took = calls["took"] if calls else None
    is_completed = row["status"] == AgentRunStatus.COMPLETED
    # What was queued again was queued first before it began.
    begins = [at for at in (row["queued_at"], row["started_at"]) if at is not None]
    return Work(
        completion_tokens=row["output_tokens"],
        total_tokens=row["input_tokens"] + row["output_tokens"],
        cost_nano=row["cost_nano"],
        call_seconds=took.total_seconds() if took else None,
        useful_seconds=_seconds(attempt.started_at, attempt.finished_at)
        if attempt and is_completed
        else None,
        life_seconds=_seconds(min(begins), row["finished_at"]) if begins else None,
    )


def _tokens(counted: Row) -> dict[str, int]:
    """Input contains cached tokens and output reasoning ones, so neither counts again."""
    return {
        "prompt_tokens": counted["input_tokens"],
        "completion_tokens": counted["output_tokens"],
        "cached_tokens": counted["cached_tokens"],
        "reasoning_tokens": counted["reasoning_tokens"],
        "total_tokens": counted["input_tokens"] + counted["output_tokens"],
    }


def _system(row: Row, attempt: Attempt | None) -> Document:
    taken = (attempt.system if attempt else None) or {}
    return {"worker": row["worker"] or None, **{name: taken.get(name) for name in _SYSTEM}}


def _iso(at: datetime | None) -> str | None:
    return at.isoformat().replace("+00:00", "Z") if at else None


def _seconds(begin: datetime | None, end: datetime | None) -> float | None:
    return (end - begin).total_seconds() if begin and end and begin <= end else None


def _milliseconds(seconds: float | None) -> float | None:
    return _rounded(seconds * 1000 if seconds is not None else None, 1)


def _rounded(value: float | None, places: int) -> float | None:
    return None if value is None else round(value, places)
