"""A model call as the limiter sees it: who makes it, what it may take, and what it took."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from agents_app.core.model import ModelRequest
from costs.core.usage import Usage
from orchestrator.core.limits import CallFacts, Unit
from orchestrator.execution.call_rows import Worst
from orchestrator.execution.claims import Claim

# A provider that refused a request has counted it, and no tokens.
REFUSED: Mapping[Unit, int] = {
    Unit.REQUESTS: 1,
    Unit.INPUT: 0,
    Unit.OUTPUT: 0,
    Unit.TOTAL: 0,
    Unit.UNCACHED_INPUT: 0,
}


def facts_of(
    claim: Claim,
    request: ModelRequest,
    *,
    call_id: UUID,
    credential_id: UUID | None,
    worst: Worst,
    tool_call: UUID | None = None,
) -> CallFacts:
    return CallFacts(
        call_id=call_id,
        # Its place in the line is the agent run's, or its tool call's, however often it comes back.
        waiter=str(tool_call or claim.agent_run_id),
        tenant_id=claim.tenant_id,
        weight=claim.tenant_weight,
        project_id=claim.project_id,
        workflow_id=claim.workflow_id,
        agent=claim.agent,
        provider=request.provider,
        model=request.model,
        credential_id=credential_id,
        amounts=_estimated(worst.input_tokens, request.max_output_tokens),
        hold_nano=worst.bound,
        budgets=flags_of(
            tenant_id=claim.tenant_id,
            project_id=claim.project_id,
            workflow_id=claim.workflow_id,
            cap_runs=claim.cap_runs,
            agents=[claim.agent],
        ),
    )


def used_by(usage: Usage) -> dict[Unit, int]:
    return {
        Unit.REQUESTS: 1,
        Unit.INPUT: usage.input_tokens,
        Unit.OUTPUT: usage.output_tokens,
        Unit.TOTAL: usage.input_tokens + usage.output_tokens,
        Unit.UNCACHED_INPUT: usage.input_tokens - usage.cached_tokens,
    }


def flag_of(tenant_id: UUID, refusal: Mapping[str, Any]) -> str:
    """The flag of the budget that refused, one of `flags_of`."""
    if refusal["scope"] == "tenant":
        return f"tenant:{tenant_id}"
    if refusal["scope"] == "agent":
        return f"agent:{tenant_id}:{refusal['agent']}"
    return f"{refusal['scope']}:{refusal['scope_id']}"


def flags_of(
    *,
    tenant_id: UUID,
    project_id: UUID,
    workflow_id: UUID,
    cap_runs: Iterable[UUID],
    agents: Iterable[str],
) -> tuple[str, ...]:
    """The flags of all budgets that may hold for calls of these agents in a run."""
    return (
        f"tenant:{tenant_id}",
        f"project:{project_id}",
        f"workflow:{workflow_id}",
        *(f"agent:{tenant_id}:{agent}" for agent in agents),
        *(f"run:{run}" for run in cap_runs),
    )


def _estimated(read: int, written: int) -> dict[Unit, int]:
    return {
        Unit.REQUESTS: 1,
        Unit.INPUT: read,
        Unit.OUTPUT: written,
        Unit.TOTAL: read + written,
        Unit.UNCACHED_INPUT: read,
    }
