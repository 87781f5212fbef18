"""Questions to people, as the engine asks them and gives up on them."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.types.json import Json

from agents_app.core.values import as_text
from orchestrator.core.hints import RunHints, hints_of
from orchestrator.core.plan import PlannedStep
from orchestrator.core.spec import Approvers
from orchestrator.core.template import Context, render
from orchestrator.execution import engine_db
from orchestrator.execution.engine_db import Row, rows

_OPEN = """
SELECT muster_open_approval(%s, %s, %s, %s, %s::json, %s::text[], %s, %s::json, %s::float, %s, %s)
"""
_EXPIRE = "SELECT * FROM muster_expire_approval(%s, %s)"
_UNTOLD = Approvers(roles=["admin", "owner"])


def ask(
    connection: Connection[Row],
    tenant_id: UUID,
    run_id: UUID,
    *,
    step: PlannedStep,
    context: Context,
) -> None:
    """Have a pending step wait for a person's decision, inside the caller's transaction.

    Asking again changes nothing. Raises TemplateError if what it shows cannot be rendered.
    """
    asked = step.approval
    if asked is None:
        raise ValueError(f"the step {step.name} asks nothing")
    approvers = asked.approvers or _UNTOLD
    arguments: list[Any] = [
        *(tenant_id, run_id, step.name),
        as_text(render(asked.question, context)),
        _json(render(asked.show, context)),
        *(list(approvers.roles), approvers.exclude_requester),
        _json(asked.form),
        float(asked.expires.seconds) if asked.expires else None,
        *(asked.on_expire, asked.on_reject),
    ]
    rows(connection, _OPEN, arguments)


def expire(tenant_id: UUID, agent_run_id: UUID) -> Sequence[RunHints] | None:
    """End a question whose time is over; None if somebody was faster. Gives what to publish."""
    ended = engine_db.many(_EXPIRE, tenant_id, agent_run_id)
    return followers(tenant_id, ended) if ended else None


def followers(tenant_id: UUID, ended: Sequence[Row]) -> list[RunHints]:
    """What is to be published once a question has ended."""
    return hints_of(tenant_id, (row for row in ended if row["what"] != "finished"))


def _json(value: Any) -> Json | None:
    return None if value is None else Json(value)
