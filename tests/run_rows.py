"""Runs in every state, written as rows: what the engine would leave behind, without waiting."""

import uuid
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from costs.models import CostEntry
from orchestrator.models import AgentRun, Attempt, LlmCall, Run, RunEvent, WorkflowVersion
from orchestrator.services.workflows import publish_spec
from tenants.kernel.clock import now
from tests.world import World

PRICES = {"input": "0.5", "output": "1.5", "source": "platform price from 2026-01-01"}
ANSWER = """## What to know

Tides follow the **moon** more than the sun. Three things decide how high the water comes:

1. the phase of the moon,
2. the shape of the coast,
3. the wind of the last two days.

| place | range |
|---|---|
| Saint-Malo | 12 m |
| Venice | 1 m |
"""
REPORT: dict[str, Any] = {
    "muster": 1,
    "name": "research-report",
    "description": "Outline, gather, write and review a short report.",
    "inputs": {
        "type": "object",
        "required": ["topic"],
        "properties": {"topic": {"type": "string", "maxLength": 200}},
    },
    "defaults": {"provider": "simulated", "model": "sim"},
    "steps": {
        "outline": {
            "agent": {"type": "prompt", "role": "planner"},
            "prompt": "Outline a report on ${input.topic}.",
        },
        "facts": {
            "needs": ["outline"],
            "agent": {"type": "prompt", "role": "executor"},
            "prompt": "Collect facts for: ${steps.outline.output}",
        },
        "quotes": {
            "needs": ["outline"],
            "agent": {"type": "prompt", "role": "executor"},
            "prompt": "Collect quotes for: ${steps.outline.output}",
        },
        "draft": {
            "needs": ["facts", "quotes"],
            "agent": {"type": "prompt", "role": "executor"},
            "prompt": "Write it from ${steps.facts.output} and ${steps.quotes.output}",
        },
        "review": {
            "needs": ["draft"],
            "agent": {"type": "prompt", "role": "reviewer"},
            "prompt": "Review: ${steps.draft.output}",
        },
    },
}


def published(world: World, spec: Mapping[str, Any] = REPORT) -> WorkflowVersion:
    with world.scope():
        return publish_spec(project=world.project, spec=spec)


def wide_spec(levels: int, width: int) -> dict[str, Any]:
    """`levels` levels of `width` steps, each of which needs the one before it in its column."""
    agent = {"type": "tool", "tool": "echo", "arguments": {"value": 1}}
    steps = {}
    for level in range(levels):
        for column in range(width):
            needs = [f"s{level - 1}_{column}"] if level else []
            steps[f"s{level}_{column}"] = {"needs": needs, "agent": agent}
    return {"muster": 1, "name": "wide", "steps": steps}


def make_run(
    world: World,
    version: WorkflowVersion,
    states: Mapping[str, str] | str,
    *,
    status: str,
    reason: str = "",
) -> Run:
    """A run whose steps are in these states; a single state is that of all steps."""
    with world.scope():
        run = _run_row(version, status, reason)
        began = run.created_at
        state_of = (lambda _: states) if isinstance(states, str) else states.__getitem__
        rows = [
            _agent_run(run, step, state=state_of(step["name"]), began=began)
            for step in version.plan["steps"]
        ]
        AgentRun.objects.bulk_create(rows)
        for row in rows:
            if row.uses_model and row.started_at:
                _call(run, row)
            if (row.finished_at or row.waiting_for) and row.attempt:
                _attempt(row)
        _events(run, rows)
        run.cost_nano = sum(row.cost_nano for row in rows)
        run.save()
    return run


def _run_row(version: WorkflowVersion, status: str, reason: str) -> Run:
    began = now() - timedelta(seconds=24)
    is_live = status in ("pending", "running")
    done = status in ("completed", "partially_completed")
    return Run.objects.create(
        project_id=version.workflow.project_id,
        workflow=version.workflow,
        version=version,
        status=status,
        status_reason=reason,
        input={"topic": "tides"},
        output=ANSWER if done else None,
        started_by={"kind": "user", "label": "ada"},
        created_at=began,
        started_at=None if status == "pending" else began + timedelta(milliseconds=40),
        finished_at=None if is_live else now(),
    )


def _agent_run(run: Run, step: Mapping[str, Any], *, state: str, began: Any) -> AgentRun:
    start = began + timedelta(seconds=4 * min(step["level"], 5) + 0.4)
    queued = start - timedelta(seconds=0.35)
    started = state in ("running", "completed", "failed", "waiting")
    ended = state in ("completed", "failed")
    with_model = step["uses_model"]
    error = {"code": "provider_error", "message": "The provider answered 503: overloaded."}
    return AgentRun(
        run=run,
        step=step["name"],
        position=step["position"],
        level=step["level"],
        status=state,
        status_reason="It needs `quotes`, which did not complete" if state == "skipped" else "",
        agent=step["agent"],
        uses_model=with_model,
        role=step.get("role") or "",
        reads=step["reads"],
        attempt=1 if started else 0,
        worker="agents-1@host" if started else "",
        lease_until=now() + timedelta(seconds=30) if state == "running" else None,
        prompt=f"Do {step['name']}: tides" if ended else None,
        output=ANSWER if state == "completed" else None,
        error=error if state in ("failed", "waiting") else None,
        # Between its first attempt and its second.
        waiting_for="retry" if state == "waiting" else "",
        due_at=now() + timedelta(seconds=40) if state == "waiting" else None,
        provider="simulated" if started and with_model else "",
        model="sim" if started and with_model else "",
        llm_calls=1 if ended and with_model else 0,
        input_tokens=412 if ended and with_model else 0,
        output_tokens=187 if state == "completed" and with_model else 0,
        cost_nano=486_500 if state == "completed" and with_model else 0,
        queued_at=queued if started or state == "queued" else None,
        started_at=start if started else None,
        attempt_started_at=start if started else None,
        finished_at=start + timedelta(seconds=3.1) if ended else None,
    )


def _call(run: Run, row: AgentRun) -> None:
    ended = {"completed": "closed", "failed": "failed", "waiting": "failed"}
    status = ended.get(row.status, "open")
    call = LlmCall.objects.create(
        agent_run=row,
        run=run,
        attempt=1,
        turn=1,
        status=status,
        provider="simulated",
        model="sim",
        role=row.role,
        request={
            "system": "Be brief.",
            "messages": [{"role": "user", "content": row.prompt or "…"}],
            "parameters": {},
        },
        reply={"text": ANSWER, "finish_reason": "stop"} if status == "closed" else None,
        error=row.error,
        hold_nano=900_000,
        cost_nano=row.cost_nano,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        unit_prices=PRICES,
        ended_at=row.finished_at,
    )
    if status != "open":
        _ledger_line(run, row, call)


def _ledger_line(run: Run, row: AgentRun, call: LlmCall) -> None:
    CostEntry.objects.create(
        id=uuid.uuid4(),
        tenant_id=run.tenant_id,
        kind="call" if call.status == "closed" else "failed",
        amount_nano=call.cost_nano,
        call_id=call.id,
        project_id=run.project_id,
        workflow_id=run.workflow_id,
        workflow_name=run.workflow.name,
        run_id=run.id,
        agent_run_id=row.id,
        attempt=1,
        step=row.step,
        agent=row.agent,
        role=row.role,
        provider="simulated",
        model="sim",
        input_tokens=call.input_tokens,
        output_tokens=call.output_tokens,
        unit_prices=PRICES,
    )


def _attempt(row: AgentRun) -> None:
    Attempt.objects.create(
        agent_run=row,
        number=1,
        worker=row.worker,
        outcome="completed" if row.status == "completed" else "failed",
        error=row.error,
        started_at=row.started_at,
        finished_at=row.finished_at or row.started_at + timedelta(seconds=3.1),
    )


def _events(run: Run, rows: list[AgentRun]) -> None:
    told = [("run.created", None, run.created_at), ("run.started", None, run.started_at)]
    told += [("agent.queued", row, row.queued_at) for row in rows]
    told += [(f"agent.{row.status}", row, row.finished_at) for row in rows]
    told += [(f"run.{run.status}", None, run.finished_at)]
    events = [
        RunEvent(
            tenant_id=run.tenant_id,
            run=run,
            agent_run_id=row.id if row else None,
            at=at,
            type=kind,
            data={"step": row.step} if row else {},
        )
        for kind, row, at in told
        if at is not None
    ]
    RunEvent.objects.bulk_create(sorted(events, key=lambda event: event.at))
