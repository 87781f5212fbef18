"""What the first page tells: what runs, what failed, what it costs; or how to begin."""

from collections.abc import Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from django.db.models import QuerySet

from agents_app.models import Agent
from costs.core.periods import day_start
from costs.selectors.outlook import Outlook, outlook
from costs.selectors.reports import lines_of_tenant
from orchestrator.core.state import TERMINAL_RUN, RunStatus
from orchestrator.models import Run, Workflow
from orchestrator.selectors.budgets import ShownBudget, nearest_to_their_limits
from orchestrator.selectors.runs import with_reasons
from orchestrator.selectors.waiting import Held, tenant_standing
from tenants.kernel.clock import now
from tenants.models import Tenant
from tenants.principals import Principal

SHOWN = 8
GATES_SHOWN = 5
BUDGETS_SHOWN = 3
_UTC = ZoneInfo("UTC")
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
    outlook: Outlook
    budgets: Sequence[ShownBudget]  # those nearest to their limits


def home(principal: Principal) -> Home:
    moment = now()
    today = day_start(moment.date(), _UTC)
    runs = run_rows()
    running = runs.filter(status__in=_LIVE)
    failed = runs.filter(status__in=_WENT_WRONG, finished_at__gte=today)
    latest = with_reasons(runs[:SHOWN])
    standing = tenant_standing(principal)
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
        outlook=outlook(lines_of_tenant(principal.project_id), moment=moment, zone=_UTC),
        budgets=nearest_to_their_limits(principal, most=BUDGETS_SHOWN),
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


def _first_steps() -> FirstSteps:
    workflow = Workflow.objects.order_by("current_version", "created_at").first()
    return FirstSteps(
        agents=Agent.objects.count(),
        workflow=workflow,
        is_published=workflow is not None and workflow.current_version_id is not None,
    )
