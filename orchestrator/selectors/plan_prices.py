"""What a workflow's draft would cost: priced by its plan, and foretold from its history."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from uuid import UUID

from django.db import connection

from orchestrator.core.expectation import (
    ENOUGH_RUNS,
    Expectation,
    History,
    Likely,
    StepHistory,
    expectation,
)
from orchestrator.core.plan_price import plan_price
from orchestrator.core.prices import PlanPrice, Priceable
from orchestrator.core.validation import examine
from orchestrator.models import Workflow
from orchestrator.services.plan_prices import terms
from orchestrator.services.workflows import compiled, tenant_catalog

Written: TypeAlias = Mapping[str, Any]
# What a plan can be made in spite of.
_MODELS: Final = frozenset({"unknown_model", "unknown_provider", "provider_not_configured"})
# How far back: the newest versions, and of their runs the newest, with so many agent runs in all.
_VERSIONS: Final = 3
_RUNS: Final = 100
_AGENT_RUNS: Final = 100_000

# The newest runs first, until they are enough. A replay did not pay for what it took over.
_RECENT = """
WITH RECURSIVE newest AS MATERIALIZED (
    SELECT row_number() OVER (ORDER BY r.id DESC) AS number, r.id, r.version_id
      FROM (SELECT id, version_id FROM run
             WHERE version_id = ANY (%s) AND replay_of_id IS NULL
               AND status IN ('completed', 'partially_completed')
             ORDER BY id DESC LIMIT %s) r),
counted AS (
    SELECT 0::bigint AS number, NULL::uuid AS id, NULL::uuid AS version_id, 0::bigint AS agent_runs
     UNION ALL
    SELECT n.number, n.id, n.version_id, c.agent_runs + a.agent_runs
      FROM counted c JOIN newest n ON n.number = c.number + 1
     CROSS JOIN LATERAL (SELECT count(*) AS agent_runs FROM agent_run x WHERE x.run_id = n.id) a
     WHERE c.agent_runs < %s)
SELECT id, version_id FROM counted WHERE id IS NOT NULL
"""
_WHOLE = """
SELECT count(*), avg(cost_nano),
       percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY cost_nano),
       percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (
           ORDER BY EXTRACT(epoch FROM finished_at - started_at))
  FROM run WHERE id = ANY (%s)
"""
# A step with all that belongs to it: items, rounds, and what it has added. Run by run, since the
# planner would rather read all of a tenant's agent runs.
_STEPS = """
SELECT name, count(*) FILTER (WHERE has_run), avg(cost) FILTER (WHERE has_run),
       percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY cost) FILTER (WHERE has_run),
       percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY seconds) FILTER (WHERE has_run),
       array_agg(cost ORDER BY run_id)
  FROM (SELECT r.id AS run_id, a.name, sum(a.cost_nano)::bigint AS cost,
               bool_or(a.is_whole AND a.started_at IS NOT NULL) AS has_run,
               max(EXTRACT(epoch FROM a.finished_at - a.started_at)) FILTER (
                   WHERE a.is_whole AND a.status = 'completed') AS seconds
          FROM unnest(%s::uuid[], %s::uuid[]) AS r (id, version_id)
         CROSS JOIN LATERAL (
               SELECT substring(x.step FROM '^[^.[]+') AS name, x.parent_id IS NULL AS is_whole,
                      x.status, x.cost_nano, x.started_at, x.finished_at
                 FROM agent_run x WHERE x.run_id = r.id OFFSET 0) a
         WHERE (r.version_id, a.name) NOT IN (
               SELECT o.version_id, o.name
                 FROM unnest(%s::uuid[], %s::text[]) AS o (version_id, name))
         GROUP BY 1, 2) s
 GROUP BY name
"""
_NONE: Final = History()


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftPrice:
    """`hindrance` is one sentence why there is no price."""

    price: PlanPrice | None = None
    history: History = _NONE
    expected: Expectation | None = None
    hindrance: str = ""


def draft_price(workflow: Workflow, draft: Mapping[str, Any]) -> DraftPrice:
    """What the workflow's draft costs; `draft` is what `draft_spec` gives."""
    report = examine(draft, tenant_catalog())
    problems = [problem for problem in report.problems if problem.code not in _MODELS]
    if report.spec is None or problems:
        count = f"{len(problems)} problem{'s' if len(problems) != 1 else ''}"
        told = f"The draft has {count}, see `workflows/validate`; the first: {problems[0].message}"
        return DraftPrice(hindrance=told)
    plan, written = compiled(report.spec, workflow.project)
    price = plan_price(Priceable(plan=plan, inputs=report.spec.inputs), terms())
    history = history_of(workflow, written)
    return DraftPrice(price=price, history=history, expected=expectation(plan, price, history))


def history_of(workflow: Workflow, plan: Written) -> History:
    """How the steps of a plan fared in runs of the workflow's newest versions.

    A step is the same as long as its name, its kind, its agent's type, model and parameters are,
    and what it repeats or calls; its prompt may have changed.
    """
    mine = _likenesses(plan)
    versions = workflow.versions.values_list("id", "plan")[:_VERSIONS]
    others = {version_id: _likenesses(stored) for version_id, stored in versions}
    with connection.cursor() as cursor:
        cursor.execute(_RECENT, [list(others), _RUNS, _AGENT_RUNS])
        recent: list[tuple[UUID, UUID]] = cursor.fetchall()
        if not recent:
            return _NONE
        alike = [run_id for run_id, version_id in recent if others[version_id] == mine]
        cursor.execute(_WHOLE, [alike])
        runs = _likely(cursor.fetchone())
        unlike = [
            (version_id, name)
            for version_id, steps in others.items()
            for name, likeness in steps.items()
            if mine.get(name) != likeness
        ]
        cursor.execute(_STEPS, [*_columns(recent), *_columns(unlike)])
        needs_samples = runs is None or runs.count < ENOUGH_RUNS
        steps = {
            name: StepHistory(
                likely=_likely(row),
                seen=len(samples),
                samples=tuple(samples) if needs_samples else (),
            )
            for name, *row, samples in cursor.fetchall()
        }
    return History(steps=steps, runs=runs)


def _columns(pairs: Iterable[tuple[Any, Any]]) -> tuple[list[Any], list[Any]]:
    found = list(pairs)
    return [first for first, _ in found], [second for _, second in found]


def _likely(row: Any) -> Likely | None:
    count, mean, costs, seconds = row
    if not count:
        return None
    took = [None, None] if seconds is None else [float(each) for each in seconds]
    return Likely(
        count=count,
        mean_nano=round(mean),
        p50_nano=round(costs[0]),
        p95_nano=round(costs[1]),
        p50_seconds=took[0],
        p95_seconds=took[1],
    )


def _likenesses(plan: Written) -> dict[str, Any]:
    return {step["name"]: _likeness(step) for step in plan["steps"]}


def _likeness(step: Written) -> Any:
    """What has to be equal for a step to count as the same."""
    config, loop, call = step["config"], step.get("loop"), step.get("call")
    return (
        [step.get("kind"), step.get("adds_steps", False), bool(step.get("map"))],
        [config.get(name) for name in ("type", "provider", "model", "parameters", "tool")],
        call and call["workflow"],
        loop and [loop["max_rounds"], _likenesses(loop["body"])],
    )
