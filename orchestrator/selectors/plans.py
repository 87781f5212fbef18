"""What planners have planned in a run, and how far it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from agents_app.core.planning import Decision
from orchestrator.core.places import without_turn
from orchestrator.core.state import AgentRunStatus
from orchestrator.models import AgentRun, Run

_A = AgentRunStatus
_AHEAD = frozenset({_A.PENDING, _A.READY, _A.QUEUED})
_AT_WORK = frozenset({_A.RUNNING, _A.WAITING})


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRound:
    """The tasks that a planner has handed out at a time; `statuses` are theirs, by name.

    `step` is the planner's; `worst_nano` is None where nobody can tell what they may cost.
    """

    step: str
    place: str
    decision: Decision
    statuses: Mapping[str, str]
    worst_nano: int | None

    @property
    def tasks(self) -> list[dict[str, Any]]:
        return [
            {
                "id": task.id,
                "title": task.title,
                "status": todo_status(self.statuses[task.id]),
                "needs": list(task.needs),
                "priority": task.priority,
                "done_by": task.agent or task.tool or task.workflow or task.kind,
                "step": f"{self.place}.{task.id}",
            }
            for task in self.decision.tasks
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    rounds: list[PlannedRound]

    @property
    def progress(self) -> dict[str, int]:
        """Of the outermost plans: what their tasks have planned is done once these are."""
        outer = outermost(self.rounds)
        statuses = [status for each in outer for status in each.statuses.values()]
        done = statuses.count(_A.COMPLETED)
        return {
            "done": done,
            "total": len(statuses),
            "percent": 100 * done // max(1, len(statuses)),
        }


def plans_of(run: Run) -> list[PlannedRound]:
    """The plans of a run, the earliest first."""
    standing = AgentRun.objects.filter(run=run, added__isnull=False).order_by("id")
    rounds = [(row, _decision(row)) for row in standing]
    places = {row.step: row for row, decision in rounds if decision}
    parts = AgentRun.objects.filter(run=run, parent_id__in=[row.id for row in places.values()])
    statuses: dict[str, str] = dict(parts.values_list("step", "status"))
    return [
        PlannedRound(
            step=without_turn(row.step),
            place=row.step,
            decision=decision,
            statuses={
                task.id: statuses.get(f"{row.step}.{task.id}", _A.PENDING)
                for task in decision.tasks
            },
            worst_nano=row.added.get("worst_nano"),
        )
        for row, decision in rounds
        if decision
    ]


def outermost(rounds: Sequence[PlannedRound]) -> list[PlannedRound]:
    """Those of planners that carry out no task of another one."""
    places = tuple(f"{each.place}." for each in rounds)
    return [each for each in rounds if not each.step.startswith(places)]


def _decision(row: AgentRun) -> Decision | None:
    """What a planner gave the steps that it has added; None if no planner did."""
    given = row.added.get("output")
    if not isinstance(given, dict) or not given.get("tasks"):
        return None
    try:
        return Decision.model_validate(given)
    except ValidationError:
        return None


def todo_status(status: str) -> str:
    """How a planner keeps a task in mind: pending, in progress, completed, or why it is not."""
    if status in _AHEAD:
        return "pending"
    return "in_progress" if status in _AT_WORK else status
