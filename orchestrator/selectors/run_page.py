"""Everything that the page of one run shows, read in a fixed number of queries."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.core.paginator import Page, Paginator
from django.db.models import Count, F, Max, QuerySet, Sum
from django.db.models.functions import Coalesce, Least

from costs.models import CostEntry
from costs.selectors.ledger import ledger
from orchestrator.core.mermaid import MAX_DRAWN_STEPS, AddedStep, added_node_id, node_id
from orchestrator.core.parsing import parse
from orchestrator.core.spec import WorkflowSpec
from orchestrator.core.state import TERMINAL_RUN, AgentRunStatus, RunStatus
from orchestrator.models import AgentRun, Attempt, LlmCall, Run, RunEvent, ToolCall
from orchestrator.selectors.bars import Segment, bar_of, claimed_at, seconds_between, tries_of
from orchestrator.selectors.runs import (
    StepSummary,
    reason_now,
    run_graph,
    step_summaries,
)
from orchestrator.selectors.waits import Wait, wait_of_run, waits_of
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
    tried_again: int  # attempts after a failed one
    recovered: int  # attempts after a lost worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """One agent run in full.

    `parts` sums up the agent runs that a map or a loop stands for, `child_id` is the run of a
    sub-workflow.
    """

    agent_run: AgentRun
    wait: Wait | None
    attempts: Sequence[Attempt]
    calls: Sequence[LlmCall]
    tool_calls: Sequence[ToolCall]
    bar: Sequence[Segment]
    queued_seconds: float | None
    running_seconds: float | None
    waited_seconds: float
    parts: StepSummary | None
    rounds: int | None
    child_id: UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The step of another run whose sub-workflow a run is."""

    run_id: UUID
    step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPage:
    run: Run
    reason: str
    wait: Wait | None  # what holds it as a whole
    is_live: bool
    elapsed_seconds: float | None
    totals: Totals
    rows: Page[Row]
    selected: Selected | None
    caller: Caller | None
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
    summaries = step_summaries(run.pk)
    graph = run_graph(run.pk, summaries)
    return RunPage(
        run=run,
        reason=_reason(run, summaries),
        wait=wait_of_run(run),
        is_live=run.status not in TERMINAL_RUN,
        elapsed_seconds=(span[1] - span[0]).total_seconds() if run.started_at else None,
        totals=totals,
        rows=_with_bars(rows, span, clock),
        selected=_in_full(shown, span, clock, summaries) if shown else None,
        caller=_caller(run),
        graph=graph.of(spec) if spec else "",
        nodes={**node_names(spec), **_added_nodes(spec, graph.added)},
    )


def _reason(run: Run, summaries: Sequence[StepSummary]) -> str:
    """Why it is as it is; of what its steps wait for, what holds most of them."""
    reason = reason_now(run)
    gates = Counter(step.waiting.gate for step in summaries if step.waiting)
    if run.status != RunStatus.RUNNING or not gates or not reason.endswith(("wait", "waits")):
        return reason
    gate, _ = gates.most_common(1)[0]
    return f"{reason} for {gate}{', among others' if len(gates) > 1 else ''}"


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
    """The newest events, oldest first, each with the `step` that it is about."""
    newest = RunEvent.objects.filter(tenant_id=current_tenant_id(), run=run).order_by("-id")
    events = list(newest[:EVENTS_SHOWN])[::-1]
    told_of = [event.agent_run_id for event in events if event.agent_run_id]
    rows = AgentRun.objects.filter(id__in=set(told_of)).values_list("id", "step")
    steps: dict[UUID | None, str] = dict(rows)
    for event in events:
        event.step = steps.get(event.agent_run_id, "")  # type: ignore[attr-defined]  # for the page
    return events


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
    more = F("attempt") - 1
    again = agent_runs.filter(attempt__gt=1).aggregate(
        all=Coalesce(Sum(more), 0),
        recovered=Coalesce(Sum(Least("lost_count", more)), 0),
        spared=Coalesce(Sum(Least("spared", more)), 0),
    )
    unsettled = {"pending", "ready", "queued", "running", "waiting"}
    return Totals(
        steps=sum(by_status.values()),
        ended=sum(n for status, n in by_status.items() if status not in unsettled),
        by_status={s: by_status[s] for s in AgentRunStatus if s in by_status},
        tried_again=max(0, again["all"] - again["recovered"] - again["spared"]),
        recovered=again["recovered"],
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


def _caller(run: Run) -> Caller | None:
    if run.parent_agent_run_id is None:
        return None
    found = AgentRun.objects.filter(id=run.parent_agent_run_id).values("run_id", "step").first()
    return Caller(**found) if found else None


def _in_full(
    agent_run: AgentRun,
    span: tuple[datetime, datetime],
    clock: datetime,
    summaries: Sequence[StepSummary],
) -> Selected:
    until = agent_run.finished_at or clock
    attempts = list(agent_run.attempts.all())
    worked = [end - begin for _, begin, end in tries_of(agent_run, attempts, clock)]
    bar = bar_of(agent_run, attempts, span, clock)
    return Selected(
        agent_run=agent_run,
        wait=waits_of([agent_run]).get(agent_run.id),
        attempts=attempts,
        calls=list(LlmCall.objects.filter(agent_run=agent_run).order_by("created_at")),
        tool_calls=list(agent_run.tool_calls.order_by("turn", "created_at")),
        bar=bar,
        queued_seconds=seconds_between(agent_run.queued_at, claimed_at(agent_run) or until),
        running_seconds=sum(span.total_seconds() for span in worked) if worked else None,
        waited_seconds=sum(part.seconds for part in bar if part.kind == AgentRunStatus.WAITING),
        parts=next((s for s in summaries if s.is_composite and s.name == agent_run.step), None),
        rounds=_rounds(agent_run),
        child_id=_child_id(agent_run),
    )


def _rounds(agent_run: AgentRun) -> int | None:
    if agent_run.kind != "loop":
        return None
    rounds = AgentRun.objects.filter(run_id=agent_run.run_id, parent_id=agent_run.id)
    last: int | None = rounds.aggregate(last=Max("item_index"))["last"]
    return None if last is None else last + 1


def _child_id(agent_run: AgentRun) -> UUID | None:
    if agent_run.kind != "workflow":
        return None
    children = Run.objects.filter(parent_agent_run_id=agent_run.id)
    return children.values_list("id", flat=True).first()


def _span(run: Run, clock: datetime) -> tuple[datetime, datetime]:
    begin = run.started_at or run.created_at
    return begin, max(run.finished_at or clock, begin)


def _with_bars(page: Page[Any], span: tuple[datetime, datetime], clock: datetime) -> Page[Row]:
    waits = waits_of(page.object_list)
    page.object_list = [
        Row(
            agent_run=agent_run,
            wait=waits.get(agent_run.id),
            bar=bar_of(agent_run, list(agent_run.attempts.all()), span, clock),
            seconds=seconds_between(agent_run.started_at, agent_run.finished_at or clock),
        )
        for agent_run in page.object_list
    ]
    return page
