"""Taking an agent run: one winner, with all that its attempt needs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from pydantic import JsonValue

from orchestrator.execution import engine_db
from orchestrator.execution.coalescing import Coalescer

# More at once would keep the first waiting for the last.
MOST = 16

_CLAIM = "SELECT * FROM muster_claim_all(%s, %s::uuid[], %s, %s::interval)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One attempt at an agent run. `attempt` is the fencing token of all that it writes.

    `outputs` holds the outputs of the steps it reads, by place; `replies` the answers that
    earlier attempts paid for, by turn. `failures` is how many attempts failed before; those
    whose worker was lost do not count. `overrides` is what a replay sets otherwise in its step;
    `added_by` the agent run that has added the step, if the version does not know it. `cap_runs`
    are the runs whose caps hold for its calls; `waited` is for how many seconds it has waited for
    limits and budgets to let its next call through; `forgiven` the last attempt before somebody had
    the failed run retried, behind which its work began anew.
    """

    tenant_id: UUID
    run_id: UUID
    agent_run_id: UUID
    version_id: UUID
    step: str
    attempt: int
    failures: int
    input: JsonValue
    outputs: Mapping[str, JsonValue]
    replies: Mapping[str, Mapping[str, Any]]
    environment_credentials: bool
    project_id: UUID
    workflow_id: UUID
    cap_runs: Sequence[UUID]
    agent: str
    tenant_weight: int
    waited: float
    forgiven: int
    item: JsonValue = None
    item_index: int | None = None
    added_by: UUID | None = None
    overrides: Mapping[str, JsonValue] | None = None


@dataclass(frozen=True, slots=True)
class _Wish:
    tenant_id: UUID
    agent_run_id: UUID
    worker: str
    lease: timedelta


def claim(tenant_id: UUID, agent_run_id: UUID, *, worker: str, lease: timedelta) -> Claim | None:
    """Take the agent run for `worker`, or None if another holds it or the run has stopped."""
    return _claims(_Wish(tenant_id, agent_run_id, worker, lease))


def _claim_all(wishes: Sequence[_Wish]) -> list[Claim | None]:
    """Claims of one tenant, worker and lease together."""
    first = wishes[0]
    ids = [wish.agent_run_id for wish in wishes]
    rows = engine_db.many(_CLAIM, first.tenant_id, ids, first.worker, first.lease)
    taken = {row["agent_run_id"]: _claim_of(first.tenant_id, row) for row in rows}
    # A doubled message in one batch: the first wins, as it would in the database.
    return [taken.pop(wish.agent_run_id, None) for wish in wishes]


def _claim_of(tenant_id: UUID, row: engine_db.Row) -> Claim:
    return Claim(
        **{
            **row,
            "outputs": row["outputs"] or {},
            "replies": row["replies"] or {},
            "waited": row["waited"] or 0.0,
        },
        tenant_id=tenant_id,
    )


_claims = Coalescer(
    _claim_all,
    key=lambda wish: (wish.tenant_id, wish.worker, wish.lease),
    most=MOST,
    concerns_all=engine_db.is_away,
)
