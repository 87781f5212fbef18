"""Runs as people and programs look at them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from django.db.models import Case, Count, F, Min, OuterRef, QuerySet, Subquery, Sum, When
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Coalesce

from orchestrator.core.errors import OrchestratorError
from orchestrator.core.jsonvalue import Json
from orchestrator.core.mermaid import to_mermaid
from orchestrator.core.parsing import spec_from_mapping
from orchestrator.core.state import AgentRunStatus, RunStatus, is_terminal
from orchestrator.models import AgentRun, Run
from orchestrator.selectors.workflows import in_project
from tenants.principals import Principal
from tenants.selectors.projects import named

_A = AgentRunStatus
# What a step with several agent runs is said to be: what still moves comes first.
_TELLING = (
    _A.RUNNING,
    _A.WAITING,
    _A.QUEUED,
    _A.READY,
    _A.PENDING,
    _A.FAILED,
    _A.BUDGET_EXCEEDED,
    _A.CANCELLED,
    _A.COMPLETED,
    _A.SKIPPED,
)
TOKENS = ("input", "output", "cached", "reasoning")


class RunNotFinishedError(OrchestratorError):
    """The run has no output yet."""

    code: ClassVar[str] = "run_not_finished"

    def __init__(self, status: str) -> None:
        super().__init__(status)
        self.status = status

    def __str__(self) -> str:
        return f"The run is {self.status}; its output comes when it has ended."


@dataclass(slots=True, kw_only=True)
class StepSummary:
    name: str
    counts: dict[str, int] = field(default_factory=dict)
    cost_nano: int = 0

    @property
    def status(self) -> str:
        return next(status for status in _TELLING if status in self.counts)


def runs_of(principal: Principal) -> QuerySet[Run]:
    """The runs that a caller sees, each with `cost` so far in nano-USD, without heavy columns."""
    rows = (
        _visible(principal)
        .select_related("project", "workflow", "version")
        .only(
            *("id", "tenant_id", "status", "status_reason", "metadata", "priority"),
            *("started_by", "created_at", "started_at", "finished_at"),
            *("project__slug", "workflow__name", "version__number"),
        )
    )
    return rows.annotate(cost=_cost_so_far())


def whole_runs_of(principal: Principal) -> QuerySet[Run]:
    """The same with input and output: for one run at a time."""
    rows = _visible(principal).select_related("project", "workflow", "version")
    return rows.defer("version__spec", "version__plan").annotate(cost=_cost_so_far())


def run_of(principal: Principal, *heavy: str) -> QuerySet[Run]:
    """A run's id and status, and the heavy columns that are asked for."""
    related = {name.partition("__")[0] for name in heavy if "__" in name}
    rows = _visible(principal).only("id", "tenant_id", "status", *heavy)
    return rows.select_related(*related) if related else rows


def _visible(principal: Principal) -> QuerySet[Run]:
    rows = Run.objects.all()
    return rows if principal.project_id is None else rows.filter(project_id=principal.project_id)


def runs_like(
    principal: Principal,
    *,
    status: set[str] | None = None,
    workflow: str | None = None,
    project: str | None = None,
    created_after: datetime | None = None,
    created_before: datetime | None = None,
    metadata: Mapping[str, str] | None = None,
) -> QuerySet[Run]:
    """Runs that fit all that is given. `created_before` is exclusive."""
    rows = runs_of(principal)
    if status:
        rows = rows.filter(status__in=status)
    if workflow is not None:
        rows = rows.filter(named(workflow, by="workflow__name", id_field="workflow_id"))
    if project is not None:
        rows = rows.filter(in_project(project))
    if created_after is not None:
        rows = rows.filter(created_at__gte=created_after)
    if created_before is not None:
        rows = rows.filter(created_at__lt=created_before)
    for number, (key, value) in enumerate((metadata or {}).items()):
        alias = f"metadata_{number}"
        rows = rows.alias(**{alias: KeyTextTransform(key, "metadata")}).filter(**{alias: value})
    return rows


def _cost_so_far() -> Any:
    """A run's own total is written when it ends; until then its agent runs know."""
    spent = (
        AgentRun.objects.filter(run=OuterRef("id"))
        .order_by()
        .values("run")
        .annotate(total=Sum("cost_nano"))
        .values("total")
    )
    return Case(
        When(finished_at__isnull=False, then=F("cost_nano")), default=Coalesce(Subquery(spent), 0)
    )


def step_summaries(run_id: UUID) -> list[StepSummary]:
    """The run's steps in their order, each with what its agent runs came to."""
    rows = (
        AgentRun.objects.filter(run_id=run_id)
        .values("step", "status")
        .annotate(count=Count("id"), cost=Sum("cost_nano"), place=Min("position"))
        .order_by("place")
    )
    steps: dict[str, StepSummary] = {}
    for row in rows:
        step = steps.setdefault(row["step"], StepSummary(name=row["step"]))
        step.counts[row["status"]] = row["count"]
        step.cost_nano += row["cost"]
    return list(steps.values())


def tokens_of(run_id: UUID) -> dict[str, int]:
    sums = {kind: Coalesce(Sum(f"{kind}_tokens"), 0) for kind in TOKENS}
    found: dict[str, int] = AgentRun.objects.filter(run_id=run_id).aggregate(**sums)
    return with_total(found)


def with_total(tokens: Mapping[str, int]) -> dict[str, int]:
    """Input includes cached tokens and output reasoning ones, so neither counts again."""
    return {**tokens, "total": tokens["input"] + tokens["output"]}


def reason_of(run: Run, steps: list[StepSummary]) -> str:
    """Why the run is as it is, in one sentence."""
    if run.status_reason or run.status != RunStatus.RUNNING:
        return run.status_reason
    done = sum(step.status == AgentRunStatus.COMPLETED for step in steps)
    return f"{done} of {len(steps)} steps completed"


def output_of(run: Run) -> Json:
    if not is_terminal(RunStatus(run.status)):
        raise RunNotFinishedError(run.status)
    output: Json = run.output
    return output


def agent_runs_of(run: Run) -> QuerySet[AgentRun]:
    return AgentRun.objects.filter(run=run)


def graph_of(run: Run) -> str:
    """The run's graph as Mermaid text, coloured by state."""
    states = dict(AgentRun.objects.filter(run=run).values_list("step", "status"))
    return to_mermaid(spec_from_mapping(run.version.spec), states=states)
