"""Questions that runs put to people, as people and programs look at them."""

from uuid import UUID

from django.db.models import OuterRef, Q, QuerySet, Subquery

from orchestrator.core.state import LIVE_RUN
from orchestrator.models import Approval, ApprovalStatus, Run
from orchestrator.selectors.runs import runs_of
from orchestrator.services.approvals import role_of
from tenants.kernel.clock import now
from tenants.principals import Principal
from tenants.roles import Scope
from tenants.selectors.projects import named

_LARGE = ("show", "form_schema", "form")


def approvals_of(principal: Principal) -> QuerySet[Approval]:
    """What a caller sees, each with `cost`: its run's so far, in nano-USD."""
    rows = Approval.objects.select_related("run", "run__workflow", "run__version").only(
        *(field.name for field in Approval._meta.concrete_fields),
        *("run__tenant_id", "run__status", "run__stop_wanted", "run__started_by"),
        *("run__workflow__name", "run__version__number"),
    )
    if principal.project_id is not None:
        rows = rows.filter(run__project_id=principal.project_id)
    # Annotated, which the checker cannot see.
    cost = runs_of(principal).filter(id=OuterRef("run_id")).values("cost")  # type: ignore[misc]
    return rows.annotate(cost=Subquery(cost))


def approvals_like(
    principal: Principal,
    *,
    status: set[str] | None = None,
    run: UUID | None = None,
    workflow: str | None = None,
) -> QuerySet[Approval]:
    """Approvals that fit all that is given, without their large columns."""
    rows = approvals_of(principal).defer(*_LARGE)
    if status:
        rows = rows.filter(status__in=status)
    if run is not None:
        rows = rows.filter(run_id=run)
    if workflow is not None:
        rows = rows.filter(named(workflow, by="run__workflow__name", id_field="run__workflow_id"))
    return rows


def inbox(principal: Principal) -> QuerySet[Approval]:
    """What this caller can decide now, the longest waiting first."""
    return _waiting_for(principal, approvals_of(principal)).order_by("id")


def inbox_size(principal: Principal) -> int:
    return _waiting_for(principal, Approval.objects.all()).count()


def open_approvals_of(run: Run) -> QuerySet[Approval]:
    return (
        Approval.objects.filter(run=run, status=ApprovalStatus.OPEN).defer(*_LARGE).order_by("id")
    )


def _waiting_for(principal: Principal, rows: QuerySet[Approval]) -> QuerySet[Approval]:
    if not principal.may(Scope.APPROVALS_WRITE):
        return rows.none()
    if principal.project_id is not None:
        rows = rows.filter(run__project_id=principal.project_id)
    return rows.filter(
        Q(expires_at__isnull=True) | Q(expires_at__gt=now()),
        Q(exclude_requester=False) | ~Q(run__started_by__id=principal.actor_id),
        status=ApprovalStatus.OPEN,
        run__status__in=LIVE_RUN,
        run__stop_wanted="",
        roles__contains=[role_of(principal)],
    )
