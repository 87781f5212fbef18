"""Taking an agent run: one winner, with all that its attempt needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from pydantic import JsonValue

from orchestrator.execution import engine_db

_CLAIM = "SELECT * FROM muster_claim(%s, %s, %s, %s::interval)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One attempt at an agent run. `attempt` is the fencing token of all that it writes.

    `outputs` holds the outputs of the steps it reads, by name; `replies` the answers that
    earlier attempts paid for, by turn.
    """

    tenant_id: UUID
    run_id: UUID
    agent_run_id: UUID
    version_id: UUID
    step: str
    attempt: int
    input: JsonValue
    outputs: Mapping[str, JsonValue]
    replies: Mapping[str, Mapping[str, Any]]
    environment_credentials: bool


def claim(tenant_id: UUID, agent_run_id: UUID, *, worker: str, lease: timedelta) -> Claim | None:
    """Take the agent run for `worker`, or None if another holds it or the run has stopped."""
    row = engine_db.one(_CLAIM, tenant_id, agent_run_id, worker, lease)
    if row is None:
        return None
    return Claim(
        tenant_id=tenant_id,
        agent_run_id=agent_run_id,
        run_id=row["run_id"],
        version_id=row["version_id"],
        step=row["step"],
        attempt=row["attempt"],
        input=row["input"],
        outputs=row["outputs"] or {},
        replies=row["replies"] or {},
        environment_credentials=row["environment_credentials"],
    )
