"""Deciding what steps ask of people."""

from collections.abc import Sequence
from typing import Any, ClassVar, Final

from django.db import connection, transaction
from psycopg.types.json import Json, Jsonb

from orchestrator.core.errors import OrchestratorError
from orchestrator.core.problems import Problem
from orchestrator.core.schema import value_problems, with_defaults
from orchestrator.dispatch.canvas import publish
from orchestrator.dispatch.live import nudge
from orchestrator.execution.approvals import followers
from orchestrator.models import Approval, ApprovalStatus
from orchestrator.services.runs import refuse_suspended
from tenants.kernel.clock import now
from tenants.principals import Principal
from tenants.roles import Role
from tenants.scope import current_tenant_id

_DECIDE = "SELECT * FROM muster_decide_approval(%s, %s, %s, %s, %s)"
_STATUS: Final = {"approve": ApprovalStatus.APPROVED, "reject": ApprovalStatus.REJECTED}


class ApprovalClosedError(OrchestratorError):
    """There is nothing to decide any more."""

    code: ClassVar[str] = "approval_closed"

    def __init__(self, state: str) -> None:
        super().__init__(state)
        self.state = state

    def __str__(self) -> str:
        return f"It cannot be decided any more: it is {self.state}."


class NotApproverError(OrchestratorError):
    """Somebody else has to decide."""

    code: ClassVar[str] = "not_an_approver"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class FormInvalidError(OrchestratorError):
    """The form does not fit its schema; all problems are listed."""

    code: ClassVar[str] = "invalid_form"

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(problems)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


def role_of(principal: Principal) -> str:
    """As what a caller decides. Only admins make keys, so keys decide as one."""
    return principal.role or Role.ADMIN


def decide(
    approval: Approval,
    *,
    principal: Principal,
    decision: str,
    form: Any = None,
) -> Approval:
    """`approve` or `reject`; what follows begins once the transaction commits. Of two, one wins.

    A rejection may leave the form out. Gives the approval as it is then. Raises
    NotApproverError, ApprovalClosedError, FormInvalidError or TenantSuspendedError.
    """
    refuse_suspended()
    # Whether its time is over is for the database to say, whose clock all share.
    if refused := _not_approver(approval, principal) or _closed(approval):
        raise refused
    filled_in = _checked(approval, decision=decision, form=form)
    by = {"kind": principal.actor_kind, "id": principal.actor_id, "label": principal.label}
    ended = _write(approval, _STATUS[decision], by, filled_in)
    fresh = Approval.objects.select_related("run").get(id=approval.id)
    if not ended:
        raise refusal(fresh, principal) or ApprovalClosedError("just being closed")
    hints = followers(current_tenant_id(), ended)
    transaction.on_commit(lambda: publish(hints))
    transaction.on_commit(lambda: nudge(approval.run_id))
    return fresh


def refusal(
    approval: Approval, principal: Principal
) -> NotApproverError | ApprovalClosedError | None:
    """Why this caller cannot decide it now, or None if they can."""
    return _not_approver(approval, principal) or _closed(approval) or _expired(approval)


def _not_approver(approval: Approval, principal: Principal) -> NotApproverError | None:
    if role_of(principal) not in approval.roles:
        wanted = " or ".join(approval.roles)
        return NotApproverError(f"Only a member whose role is {wanted} may decide this.")
    if approval.exclude_requester and approval.run.started_by.get("id") == principal.actor_id:
        return NotApproverError("Whoever started the run may not decide this.")
    return None


def _closed(approval: Approval) -> ApprovalClosedError | None:
    if approval.status != ApprovalStatus.OPEN:
        return ApprovalClosedError(approval.status)
    if approval.run.stop_wanted:
        return ApprovalClosedError("of a run that is being stopped")
    return None


def _expired(approval: Approval) -> ApprovalClosedError | None:
    if approval.expires_at is not None and approval.expires_at <= now():
        return ApprovalClosedError(ApprovalStatus.EXPIRED.value)
    return None


def _checked(approval: Approval, *, decision: str, form: Any) -> Any:
    schema = approval.form_schema
    if form is None and (schema is None or decision == "reject"):
        return None
    if schema is None:
        raise FormInvalidError([Problem("/form", "unexpected", "Nothing is to be filled in here")])
    filled_in = with_defaults({} if form is None else form, schema)
    problems = value_problems(filled_in, schema, at="/form")
    if problems:
        raise FormInvalidError(problems)
    return filled_in


def _write(approval: Approval, status: str, by: Any, form: Any) -> list[dict[str, Any]]:
    answer = None if form is None else Json(form)
    arguments: Any = [current_tenant_id(), approval.id, status, Jsonb(by), answer]
    with connection.cursor() as cursor:
        cursor.execute(_DECIDE, arguments)
        columns = [column.name for column in cursor.description]
        return [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
