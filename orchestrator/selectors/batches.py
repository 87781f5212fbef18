"""Batches of runs: how their runs stand together, and what they cost."""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Count, Max, Min, Q, QuerySet, Sum
from django.db.models.functions import Coalesce

from orchestrator.core.batch import batch_status, has_ended
from orchestrator.models import AgentRun, Run, RunBatch
from tenants.principals import Principal


def batches_of(principal: Principal) -> QuerySet[RunBatch]:
    """The batches that a caller sees; one who has a single project, those that lie in it."""
    rows = RunBatch.objects.select_related("project")
    return rows if principal.project_id is None else rows.filter(project_id=principal.project_id)


def with_figures(batches: Iterable[RunBatch]) -> list[RunBatch]:
    """The batches, each with `counts` by status, `status`, cost, savings, begin and end."""
    listed = list(batches)
    ids = [batch.id for batch in listed]
    counts, spans, live_costs = counts_of(ids), _spans(ids), _costs_of_live_runs(ids)
    for batch in listed:
        span = spans.get(batch.id, {})
        figures: Any = batch
        figures.counts = counts.get(batch.id, {})
        figures.status = batch_status(figures.counts)
        figures.cost = span.get("cost", 0) + live_costs.get(batch.id, 0)
        figures.saved = span.get("saved", 0)
        figures.started_at = span.get("begin")
        figures.finished_at = _end(span) if has_ended(figures.status) else None
    return listed


def _end(span: dict[str, Any]) -> datetime | None:
    end: datetime | None = span.get("end")
    return end


def counts_of(batch_ids: Collection[UUID]) -> dict[UUID, dict[str, int]]:
    """How many runs of each batch are in each state."""
    rows = Run.objects.filter(batch_id__in=batch_ids).order_by().values_list("batch_id", "status")
    counts: dict[UUID, dict[str, int]] = {}
    for batch_id, status, count in rows.annotate(Count("id")):
        counts.setdefault(batch_id, {})[status] = count
    return counts


def _spans(batch_ids: Collection[UUID]) -> dict[UUID, dict[str, Any]]:
    ended = Q(finished_at__isnull=False)
    rows = (
        Run.objects.filter(batch_id__in=batch_ids)
        .order_by()
        .values("batch_id")
        .annotate(
            # A run's own total is written when it ends; until then its agent runs know.
            cost=Coalesce(Sum("cost_nano", filter=ended), 0),
            saved=Coalesce(Sum("saved_nano"), 0),
            begin=Min("started_at"),
            end=Max("finished_at"),
        )
    )
    return {row["batch_id"]: dict(row) for row in rows}


def _costs_of_live_runs(batch_ids: Collection[UUID]) -> dict[UUID, int]:
    live = AgentRun.objects.filter(run__batch_id__in=batch_ids, run__finished_at__isnull=True)
    rows = live.order_by().values_list("run__batch_id").annotate(Sum("cost_nano"))
    return dict(rows)
