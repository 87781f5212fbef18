"""What the first page tells: what runs, what failed, what it costs; or how to begin."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q, QuerySet, Sum

from agents_app.models import Agent
from costs.models import CostEntry
from orchestrator.core.state import TERMINAL_RUN, RunStatus
from orchestrator.models import Run, Workflow
from orchestrator.selectors.runs import with_reasons
from orchestrator.selectors.waiting import Held, tenant_standing
from tenants.kernel.clock import now
from tenants.models import Tenant
from tenants.principals import Principal

SHOWN = 8
GATES_SHOWN = 5
_WENT_WRONG = (RunStatus.FAILED, RunStatus.PARTIALLY_COMPLETED, RunStatus.BUDGET_EXCEEDED)
_LIVE = [status for status in RunStatus if status not in TERMINAL_RUN]


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstSteps:
    """How far a new tenant has come."""

    agents: int
    workflow: Workflow | None
    is_published: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    tenant: Tenant
    first_steps: FirstSteps | None  # None once there was a run
    running: list[Run]
    running_count: int
    failed: list[Run]
    failed_count: int
    latest: list[Run]
    started_today: int
    waiting: int
    held: Sequence[Held]  # by which gates, most first
    more_gates: int
    spent_today_nano: int
    spent_month_nano: int


def home(principal: Principal) -> Home:
    today = now().replace(hour=0, minute=0, second=0, microsecond=0)
    runs = run_rows()
    running = runs.filter(status__in=_LIVE)
    failed = runs.filter(status__in=_WENT_WRONG, finished_at__gte=today)
    latest = with_reasons(runs[:SHOWN])
    standing = tenant_standing(principal)
    spent_today, spent_month = _spent(principal, today)
    return Home(
        tenant=Tenant.objects.get(id=principal.tenant_id),
        first_steps=None if latest else _first_steps(),
        running=with_reasons(running[:SHOWN]),
        running_count=running.count(),
        failed=with_reasons(failed[:SHOWN]),
        failed_count=failed.count(),
        latest=latest,
        started_today=runs.filter(created_at__gte=today).count(),
        waiting=standing.waiting,
        held=standing.held[:GATES_SHOWN],
        more_gates=max(0, len(standing.held) - GATES_SHOWN),
        spent_today_nano=spent_today,
        spent_month_nano=spent_month,
    )


def run_rows() -> QuerySet[Run]:
    """Runs for a list: with their workflow, without the large values nobody reads there."""
    return Run.objects.select_related("workflow", "version", "project").only(
        "tenant_id",
        "status",
        "status_reason",
        "stop_wanted",
        "stop_reason",
        "cost_nano",
        "priority",
        "created_at",
        "started_at",
        "finished_at",
        "started_by",
        "workflow__name",
        "version__number",
        "project__name",
    )


def _spent(principal: Principal, today: datetime) -> tuple[int, int]:
    month = today.replace(day=1)
    found = CostEntry.objects.filter(tenant_id=principal.tenant_id, held_at__gte=month).aggregate(
        today=Sum("amount_nano", filter=Q(held_at__gte=today)), month=Sum("amount_nano")
    )
    return found["today"] or 0, found["month"] or 0


def _first_steps() -> FirstSteps:
    workflow = Workflow.objects.order_by("current_version", "created_at").first()
    return FirstSteps(
        agents=Agent.objects.count(),
        workflow=workflow,
        is_published=workflow is not None and workflow.current_version_id is not None,
    )
