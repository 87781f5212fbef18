"""Runs as people and programs look at them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Final
from uuid import UUID

from django.db import connection
from django.db.models import (
    BooleanField,
    Case,
    Count,
    Exists,
    ExpressionWrapper,
    F,
    Func,
    Min,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Sum,
    TextField,
    Value,
    When,
)
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Coalesce

from orchestrator.core.errors import OrchestratorError
from orchestrator.core.jsonvalue import Json
from orchestrator.core.mermaid import AddedStep, to_mermaid
from orchestrator.core.parsing import spec_from_mapping
from orchestrator.core.places import root_of
from orchestrator.core.spec import WorkflowSpec
from orchestrator.core.state import AgentRunStatus, RunStatus, WaitingReason, is_terminal
from orchestrator.models import AgentRun, ReadyAgentRun, Run
from orchestrator.selectors.waits import DUE, SINCE, WAITS_FOR, Wait, due_together, waits_of
from orchestrator.selectors.workflows import in_project
from tenants.principals import Principal
from tenants.selectors.projects import named

_A = AgentRunStatus
# What a map at work is said to be: what moves comes first.
_MOVING = (_A.RUNNING, _A.WAITING, _A.QUEUED, _A.READY)
# Agent runs that only stand for others.
GATHERING = ("map", "loop", "steps")
# The step of the run that an agent run belongs to, and whether it is an item of that step's map
# (see `core.places`).
ROOT: Final = Func(F("step"), Value("^[^.[]+"), function="substring", output_field=TextField())
_IS_ITEM: Final = ExpressionWrapper(~Q(step__contains="."), output_field=BooleanField())
_ADDED = """
SELECT a.step, s.name, s.needs
  FROM agent_run a, json_to_recordset(a.added -> 'plan' -> 'steps') AS s (name text, needs text[])
 WHERE a.run_id = %s AND a.added IS NOT NULL ORDER BY a.id
"""
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
    """A step with what it came to.

    `counts` has the items of a map, the steps of a loop's rounds, or the step alone, by status;
    `waiting` is the wait that is over first.
    """

    name: str
    own_status: str
    own_kind: str = "agent"
    counts: dict[str, int] = field(default_factory=dict)
    waiting: Wait | None = None
    cost_nano: int = 0

    @property
    def status(self) -> str:
        """That of its agent run; while a map is at work, what its items tell."""
        if self.own_status != _A.RUNNING:
            return self.own_status
        return next((status for status in _MOVING if status in self.counts), self.own_status)

    @property
    def is_composite(self) -> bool:
        return self.own_kind in GATHERING

    @property
    def progress(self) -> str:
        """How many of its agent runs have completed, such as 3 of 5."""
        return f"{self.counts.get(_A.COMPLETED, 0):,} of {sum(self.counts.values()):,}"

    def add(self, row: Mapping[str, Any]) -> None:
        """Its agent run, or some of those that this one stands for."""
        status, until = row["status"], row["until"]
        if self._counts(row):
            self.counts[status] = self.counts.get(status, 0) + row["count"]
        self.cost_nano += row["cost"]
        known = self.waiting.until if self.waiting else None
        if status == _A.WAITING and (known is None or (until and until < known)):
            gate = row["waits_on"] or WAITS_FOR[row["waiting_for"]]
            self.waiting = Wait(
                reason=row["waiting_for"], gate=gate, since=row["since"], until=until
            )

    def _counts(self, row: Mapping[str, Any]) -> bool:
        if self.own_kind == "map":
            return bool(row["is_item"])
        return row["kind"] not in GATHERING


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What a run took over from another one; `of` is None once that is deleted."""

    of: UUID | None
    from_step: str
    overrides: Mapping[str, Json]
    reused: list[str]
    saved_nano: int


def runs_of(principal: Principal) -> QuerySet[Run]:
    """The runs that a caller sees, each with `cost` so far in nano-USD, without heavy columns."""
    rows = (
        _visible(principal)
        .select_related("project", "workflow", "version")
        .only(
            *("id", "tenant_id", "status", "status_reason", "stop_wanted", "stop_reason"),
            *("metadata", "priority", "started_by", "deadline_at"),
            *("created_at", "started_at", "finished_at"),
            *("max_cost_nano", "saved_nano", "replay_of_id", "batch_id"),
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
    batch: UUID | None = None,
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
    if batch is not None:
        rows = rows.filter(batch_id=batch)
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


def replay_of(run: Run) -> Replay | None:
    """What the run reuses of the one that it replays, if it replays one."""
    if not run.replay_from:
        return None
    reused = AgentRun.objects.filter(run=run, reused_from__isnull=False)
    return Replay(
        of=run.replay_of_id,
        from_step=run.replay_from,
        overrides=run.overrides or {},
        reused=list(reused.order_by("position").values_list("step", flat=True)),
        saved_nano=run.saved_nano,
    )


def step_summaries(run_id: UUID) -> list[StepSummary]:
    """The run's steps in their order, each with what its agent runs came to."""
    own = AgentRun.objects.filter(run_id=run_id, parent_id=None).order_by("position")
    steps: dict[str, StepSummary] = {}
    for row in own.values(
        *("step", "kind", "status", "waiting_for", "waits_on"),
        until=F("due_at"),
        since=SINCE,
        cost=F("cost_nano"),
    ):
        step = StepSummary(name=row["step"], own_status=row["status"], own_kind=row["kind"])
        step.add({**row, "count": 1, "is_item": False})
        steps[row["step"]] = step
    parts = AgentRun.objects.filter(run_id=run_id, parent_id__isnull=False).order_by()
    counted: Iterable[Mapping[str, Any]] = (
        parts.annotate(root=ROOT, is_item=_IS_ITEM)
        .values("root", "is_item", "kind", "status", "waiting_for", "waits_on")
        .annotate(
            count=Count("id"),
            cost=Sum("cost_nano"),
            until=Min("due_at"),
            since=Min(SINCE),
        )
    )
    for part in counted:
        steps[part["root"]].add(part)
    _tell_what_is_due(run_id, steps.values())
    return list(steps.values())


def _tell_what_is_due(run_id: UUID, steps: Iterable[StepSummary]) -> None:
    """Where nothing of a step waits for its own reasons, what is due waits for others."""
    due = [step for step in steps if step.waiting is None and step.status in DUE]
    if not due:
        return
    in_share = ReadyAgentRun.objects.filter(run_id=run_id, lane=F("tenant_id")).exists()
    for step in due:
        step.waiting = due_together(step.status, is_for_share=in_share)


def with_waits(agent_runs: Iterable[AgentRun]) -> list[AgentRun]:
    """Each with `wait`: what holds it, or None."""
    rows = list(agent_runs)
    waits = waits_of(rows)
    for row in rows:
        row.wait = waits.get(row.id)  # type: ignore[attr-defined]
    return rows


def tokens_of(run_id: UUID) -> dict[str, int]:
    sums = {kind: Coalesce(Sum(f"{kind}_tokens"), 0) for kind in TOKENS}
    found: dict[str, int] = AgentRun.objects.filter(run_id=run_id).aggregate(**sums)
    return with_total(found)


def with_total(tokens: Mapping[str, int]) -> dict[str, int]:
    """Input includes cached tokens and output reasoning ones, so neither counts again."""
    return {**tokens, "total": tokens["input"] + tokens["output"]}


def with_reasons(runs: Iterable[Run]) -> list[Run]:
    """The runs, each with `reason`: why it is as it is, in one sentence."""
    listed = list(runs)
    moving = [run.id for run in listed if run.status in (RunStatus.RUNNING, RunStatus.PAUSED)]
    counts = _steps_by_status(moving)
    for run in listed:
        run.reason = reason_of(run, counts.get(run.id, {}))  # type: ignore[attr-defined]
    return listed


def reason_now(run: Run) -> str:
    """The same for one run."""
    return reason_of(run, _steps_by_status([run.id]).get(run.id, {}))


def reason_of(run: Run, steps: Mapping[str, int]) -> str:
    """Why the run is as it is, in one sentence; `steps` counts a live run's steps by status."""
    if run.stop_wanted:
        is_cancelled = run.stop_wanted == RunStatus.CANCELLED
        return f"Is being {'cancelled' if is_cancelled else 'stopped'}: {run.stop_reason}"
    if run.status == RunStatus.PENDING:
        return run.status_reason or "Nothing has begun yet"
    if run.status == RunStatus.PAUSED and (at_work := steps.get(_A.RUNNING)):
        return f"{run.status_reason}; {_counted(at_work)} still at work"
    if run.status == RunStatus.RUNNING:
        return _progress(steps)
    return run.status_reason


def _progress(steps: Mapping[str, int]) -> str:
    count = sum(steps.values())
    total = f"{count} step{'' if count == 1 else 's'}"
    if waiting := steps.get(_A.WAITING):
        return f"{waiting} of {total} wait{'s' if waiting == 1 else ''}"
    return f"{steps.get(_A.COMPLETED, 0)} of {total} completed"


def _counted(steps: int) -> str:
    return f"{steps} step{' is' if steps == 1 else 's are'}"


def _steps_by_status(run_ids: Collection[UUID]) -> dict[UUID, dict[str, int]]:
    if not run_ids:
        return {}
    rows = AgentRun.objects.filter(run_id__in=run_ids).order_by()
    counts: dict[UUID, dict[str, int]] = {}
    steps = rows.filter(parent_id=None).values_list("run_id", "status")
    for run_id, status, count in steps.annotate(Count("id")):
        counts.setdefault(run_id, {})[status] = count
    # A map or a loop is at work as a whole, but waits if that is all that its parts do.
    parts = rows.filter(parent_id__isnull=False, status__in=_MOVING).exclude(kind__in=GATHERING)
    waits = Count("id", filter=Q(status=_A.WAITING))
    moving = parts.annotate(root=ROOT).values("run_id", "root").annotate(moving=Count("id"))
    for row in moving.annotate(waits=waits).filter(moving=F("waits")):
        of_run = counts[row["run_id"]]
        if of_run.get(_A.RUNNING):
            of_run[_A.RUNNING] -= 1
            of_run[_A.WAITING] = of_run.get(_A.WAITING, 0) + 1
    return counts


def output_of(run: Run) -> Json:
    if not is_terminal(RunStatus(run.status)):
        raise RunNotFinishedError(run.status)
    output: Json = run.output
    return output


def agent_runs_of(
    run: Run, *, status: set[str] | None = None, waiting_for: set[str] | None = None
) -> QuerySet[AgentRun]:
    """The run's agent runs that fit all that is given, each with its attempts."""
    rows = AgentRun.objects.filter(run=run).prefetch_related("attempts")
    if status:
        rows = rows.filter(status__in=status)
    if waiting_for:
        rows = rows.filter(_waits_for(waiting_for))
    return rows


def _waits_for(reasons: set[str]) -> Q:
    found = Q(status=_A.WAITING, waiting_for__in=reasons)
    if WaitingReason.WORKER in reasons:
        found |= Q(status=_A.QUEUED)
    share, parallel = (
        r in reasons for r in (WaitingReason.TENANT_SHARE, WaitingReason.MAX_PARALLEL)
    )
    if share or parallel:
        lined_up = Exists(
            ReadyAgentRun.objects.filter(
                run_id=OuterRef("run_id"), agent_run_id=OuterRef("id"), lane=F("tenant_id")
            )
        )
        found |= Q(status=_A.READY) & (
            Q() if share and parallel else Q(lined_up) if share else ~Q(lined_up)
        )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class RunGraph:
    """How a run is drawn: the state of each step, how far it is, and what was added to it."""

    states: Mapping[str, str]
    progress: Mapping[str, str]
    added: Sequence[AddedStep]

    def of(self, spec: WorkflowSpec) -> str:
        return to_mermaid(spec, states=self.states, progress=self.progress, added=self.added)


def run_graph(run_id: UUID, steps: Sequence[StepSummary]) -> RunGraph:
    states = {step.name: step.status for step in steps}
    added = _added_steps(run_id, states)
    if added:
        parts = AgentRun.objects.filter(run_id=run_id, added_by__isnull=False)
        of_parts = dict(parts.values_list("step", "status"))
        states |= {each.place: of_parts.get(each.place, _A.PENDING.value) for each in added}
    progress = {step.name: step.progress for step in steps if step.is_composite}
    return RunGraph(states=states, progress=progress, added=added)


def _added_steps(run_id: UUID, steps: Collection[str]) -> list[AddedStep]:
    """Items and rounds have no node of their own: what they add hangs at their step."""
    with connection.cursor() as cursor:
        cursor.execute(_ADDED, [run_id])
        rows = cursor.fetchall()
    drawn = {*steps, *(f"{by}.{name}" for by, name, _ in rows)}
    return [
        AddedStep(
            place=f"{by}.{name}",
            by=by if by in drawn else root_of(by),
            needs=tuple(f"{by}.{need}" for need in needs),
        )
        for by, name, needs in rows
    ]


def graph_of(run: Run) -> str:
    """The run's graph as Mermaid text, coloured by state."""
    graph = run_graph(run.pk, step_summaries(run.pk))
    return graph.of(spec_from_mapping(run.version.spec))
