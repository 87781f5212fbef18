"""Everything that the page of one run shows, read in a fixed number of queries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.paginator import Page, Paginator
from django.db.models import Count, QuerySet, Sum
from django.db.models.functions import Coalesce

from costs.models import CostEntry
from costs.selectors.ledger import ledger
from orchestrator.core.mermaid import MAX_DRAWN_STEPS, AddedStep, added_node_id, node_id
from orchestrator.core.parsing import parse
from orchestrator.core.spec import WorkflowSpec
from orchestrator.core.state import TERMINAL_RUN, AgentRunStatus
from orchestrator.models import AgentRun, Attempt, LlmCall, Run, RunEvent
from orchestrator.selectors.runs import Wait, reason_now, run_graph, wait_of
from tenants.kernel.clock import now
from tenants.scope import current_tenant_id

AGENT_RUNS_PAGE = 50
EVENTS_SHOWN = 200
LEDGER_SHOWN = 200
_HEAVY = ("prompt", "output", "reads")
# Whom to show first when nobody is selected: what went wrong, what is at work, what came last.
_TELLING = (
    AgentRunStatus.FAILED,
    AgentRunStatus.BUDGET_EXCEEDED,
    AgentRunStatus.RUNNING,
    AgentRunStatus.WAITING,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A part of a bar, in percent of the run's whole time."""

    kind: str
    left: float
    width: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    agent_run: AgentRun
    wait: Wait | None
    bar: Sequence[Segment]
    seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    steps: int
    ended: int
    by_status: Mapping[str, int]
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    llm_calls: int
    cost_nano: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """One agent run in full."""

    agent_run: AgentRun
    wait: Wait | None
    attempts: Sequence[Attempt]
    calls: Sequence[LlmCall]
    bar: Sequence[Segment]
    queued_seconds: float | None
    running_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPage:
    run: Run
    reason: str
    is_live: bool
    elapsed_seconds: float | None
    totals: Totals
    rows: Page[Row]
    selected: Selected | None
    graph: str
    nodes: Mapping[str, str]  # node of the graph -> step


def run_page(run: Run, *, step: str | None, page: str | None, status: str | None = None) -> RunPage:
    """`step` is the one to show in full; without it, the most telling one."""
    clock = now()
    span = _span(run, clock)
    agent_runs = AgentRun.objects.filter(run=run)
    listed = agent_runs.filter(status=status) if status in set(AgentRunStatus) else agent_runs
    listed = listed.order_by("position", "id").defer(*_HEAVY).prefetch_related("attempts")
    rows = Paginator(listed, AGENT_RUNS_PAGE).get_page(page)
    shown = _select(agent_runs, step)
    totals = _totals(run, agent_runs)
    spec = parse(run.version.spec).spec
    graph = run_graph(run.pk)
    return RunPage(
        run=run,
        reason=reason_now(run),
        is_live=run.status not in TERMINAL_RUN,
        elapsed_seconds=(span[1] - span[0]).total_seconds() if run.started_at else None,
        totals=totals,
        rows=_with_bars(rows, span, clock),
        selected=_in_full(shown, span, clock) if shown else None,
        graph=graph.of(spec) if spec else "",
        nodes={**node_names(spec), **_added_nodes(spec, graph.added)},
    )


def node_names(spec: WorkflowSpec | None) -> dict[str, str]:
    """Which step each node of the graph is."""
    if spec is None or len(spec.steps) > MAX_DRAWN_STEPS:
        return {}  # drawn by levels
    steps = spec.steps
    return {node_id(position): step.name for position, step in enumerate(steps)}


def _added_nodes(spec: WorkflowSpec | None, added: Sequence[AddedStep]) -> dict[str, str]:
    if spec is None or len(spec.steps) + len(added) > MAX_DRAWN_STEPS:
        return {}  # folded
    return {added_node_id(position): each.place for position, each in enumerate(added)}


def events_of(run: Run) -> list[RunEvent]:
    """The newest events, oldest first."""
    newest = RunEvent.objects.filter(tenant_id=current_tenant_id(), run=run).order_by("-id")
    return list(newest[:EVENTS_SHOWN])[::-1]


def ledger_of(run: Run) -> QuerySet[CostEntry]:
    return ledger(run_id=run.id).order_by("at", "id")


def _totals(run: Run, agent_runs: QuerySet[AgentRun]) -> Totals:
    by_status = dict(agent_runs.order_by().values_list("status").annotate(Count("id")))
    # Agent runs are summed up as they end; calls tell of what is under way too.
    calls = LlmCall.objects.filter(run=run)
    sums = {
        name: Coalesce(Sum(name), 0)
        for name in (
            "input_tokens",
            "output_tokens",
            "cached_tokens",
            "reasoning_tokens",
            "cost_nano",
        )
    }
    found: dict[str, Any] = calls.aggregate(llm_calls=Count("id"), **sums)
    unsettled = {"pending", "ready", "queued", "running", "waiting"}
    return Totals(
        steps=sum(by_status.values()),
        ended=sum(n for status, n in by_status.items() if status not in unsettled),
        by_status={s: by_status[s] for s in AgentRunStatus if s in by_status},
        **found,
    )


def _select(agent_runs: QuerySet[AgentRun], step: str | None) -> AgentRun | None:
    if step:
        return agent_runs.filter(step=step).first()
    for status in _TELLING:
        found = agent_runs.filter(status=status).order_by("position").first()
        if found:
            return found
    ended = agent_runs.filter(finished_at__isnull=False, status=AgentRunStatus.COMPLETED)
    return ended.order_by("-finished_at").first() or agent_runs.order_by("position").first()


def _in_full(agent_run: AgentRun, span: tuple[datetime, datetime], clock: datetime) -> Selected:
    until = agent_run.finished_at or clock
    attempts = list(agent_run.attempts.all())
    worked = [end - begin for _, begin, end in _tries(agent_run, attempts, clock)]
    return Selected(
        agent_run=agent_run,
        wait=wait_of(agent_run),
        attempts=attempts,
        calls=list(LlmCall.objects.filter(agent_run=agent_run).order_by("created_at")),
        bar=_bar(agent_run, attempts, span, clock),
        queued_seconds=_between(agent_run.queued_at, _claimed_at(agent_run) or until),
        running_seconds=sum(span.total_seconds() for span in worked) if worked else None,
    )


def _span(run: Run, clock: datetime) -> tuple[datetime, datetime]:
    begin = run.started_at or run.created_at
    return begin, max(run.finished_at or clock, begin)


def _with_bars(page: Page[Any], span: tuple[datetime, datetime], clock: datetime) -> Page[Row]:
    page.object_list = [
        Row(
            agent_run=agent_run,
            wait=wait_of(agent_run),
            bar=_bar(agent_run, list(agent_run.attempts.all()), span, clock),
            seconds=_between(agent_run.started_at, agent_run.finished_at or clock),
        )
        for agent_run in page.object_list
    ]
    return page


_Stretch = tuple[str, datetime, datetime]


def _bar(
    agent_run: AgentRun,
    attempts: Sequence[Attempt],
    span: tuple[datetime, datetime],
    clock: datetime,
) -> tuple[Segment, ...]:
    """How it lay queued, was tried, and waited in between."""
    tries = _tries(agent_run, attempts, clock)
    ended = agent_run.finished_at or clock
    parts: list[_Stretch] = []
    if agent_run.queued_at:
        parts.append(("queued", agent_run.queued_at, _claimed_at(agent_run) or ended))
    at = agent_run.started_at
    for kind, begin, end in tries:
        if at and at < begin:
            parts.append(("waiting", at, begin))
        parts.append((kind, begin, end))
        at = end
    if at and (agent_run.status == AgentRunStatus.WAITING or not tries):
        parts.append((agent_run.status, at, ended))
    return tuple(_segment(kind, begin, end, span) for kind, begin, end in parts if begin <= end)


_OUTCOMES = {"lost": AgentRunStatus.CANCELLED, "added_steps": AgentRunStatus.COMPLETED}


def _tries(agent_run: AgentRun, attempts: Sequence[Attempt], clock: datetime) -> Sequence[_Stretch]:
    """When it was at work, and what came of it."""
    tries: list[_Stretch] = [
        (_OUTCOMES.get(each.outcome, each.outcome), each.started_at, each.finished_at)
        for each in attempts
    ]
    if agent_run.status == AgentRunStatus.RUNNING and agent_run.attempt_started_at:
        tries.append((agent_run.status, agent_run.attempt_started_at, clock))
    return tries


def _claimed_at(agent_run: AgentRun) -> datetime | None:
    """When it was taken from the queue in which it last lay."""
    claimed, queued = agent_run.attempt_started_at, agent_run.queued_at
    return claimed if claimed and queued and queued <= claimed else None


def _segment(kind: str, begin: datetime, end: datetime, span: tuple[datetime, datetime]) -> Segment:
    whole = max((span[1] - span[0]).total_seconds(), 0.001)
    left = 100 * (begin - span[0]).total_seconds() / whole
    left = min(max(left, 0.0), 99.5)
    width = 100 * (end - begin).total_seconds() / whole
    return Segment(
        kind=kind,
        left=round(left, 2),
        width=round(min(max(width, 0.5), 100 - left), 2),
        seconds=(end - begin).total_seconds(),
    )


def _between(begin: datetime | None, end: datetime | None) -> float | None:
    return max((end - begin).total_seconds(), 0.0) if begin and end else None
