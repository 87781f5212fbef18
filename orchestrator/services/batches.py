"""Runs that are started together, and cancelled together."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any, ClassVar, Final
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Func, IntegerField

from orchestrator.core.batch import batch_status, has_ended
from orchestrator.core.errors import OrchestratorError
from orchestrator.core.problems import Problem, limited, pointer
from orchestrator.core.state import LIVE_RUN, RunStatus
from orchestrator.dispatch.canvas import publish_advances
from orchestrator.models import Run, RunBatch, Workflow, WorkflowVersion
from orchestrator.selectors.batches import counts_of
from orchestrator.services.errors import InputInvalidError, NotPublishedError
from orchestrator.services.plan_prices import CapTooSmallError
from orchestrator.services.readiness import provider_problems
from orchestrator.services.runs import (
    create_runs,
    new_run,
    pinned_version,
    refuse_small_cap,
    refuse_suspended,
)
from tenants.scope import current_actor, current_tenant_id
from tenants.services.notes import note

MAX_RUNS: Final = 1_000
MAX_STEPS: Final = 100_000

_STOP = "SELECT count(muster_stop_run(%s, r.id, %s, %s)) FROM unnest(%s::uuid[]) AS r (id)"


class BatchStateError(OrchestratorError):
    """The batch's state forbids what was asked of it."""

    code: ClassVar[str] = "batch_state"

    def __init__(self, state: str) -> None:
        super().__init__(state)
        self.state = state

    def __str__(self) -> str:
        return f"A batch that is {self.state} cannot be cancelled."


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A run to be started; `place` is where in the request it was asked for."""

    place: int
    workflow: Workflow
    version: WorkflowVersion | None = None
    input: Any = None
    priority: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    deadline: timedelta | None = None
    max_cost_nano: int | None = None


def start_batch(
    wanted: Sequence[Wanted], *, name: str = "", problems: Sequence[Problem] = ()
) -> RunBatch:
    """Start all of the runs, or none.

    Raises TenantSuspendedError, or InputInvalidError with every problem of every run, at
    `/runs/PLACE/...`, together with the `problems` that the caller has found in others.
    """
    refuse_suspended()
    found = list(problems)
    runs = [run for each in wanted if (run := _new_run(each, found))]
    if not found:
        found += _size_problems(runs)
    if found:
        raise InputInvalidError(limited(sorted(found, key=_place)))
    projects = {run.project_id for run in runs}
    with transaction.atomic():
        batch = RunBatch.objects.create(
            name=name,
            project_id=projects.pop() if len(projects) == 1 else None,
            size=len(runs),
            started_by=asdict(current_actor()),
        )
        for run in runs:
            run.batch = batch
        create_runs(runs)
    return batch


def _new_run(wanted: Wanted, problems: list[Problem]) -> Run | None:
    at = pointer("runs", wanted.place)
    try:
        version = pinned_version(wanted.workflow, wanted.version)
        problems += provider_problems(version.id, at=at + "/workflow")
        run = new_run(
            workflow=wanted.workflow,
            version=version,
            input=wanted.input,
            priority=wanted.priority,
            metadata=wanted.metadata,
            deadline=wanted.deadline,
            max_cost_nano=wanted.max_cost_nano,
            at=at + "/input",
        )
        refuse_small_cap(run)
        return run
    except NotPublishedError as error:
        problems.append(Problem(at + "/workflow", error.code, str(error)))
    except CapTooSmallError as error:
        problems.append(Problem(at + error.loc, error.code, str(error)))
    except InputInvalidError as error:
        problems += error.problems
    return None


def _size_problems(runs: Sequence[Run]) -> list[Problem]:
    steps = _step_counts({run.version_id for run in runs})
    total = sum(steps[run.version_id] for run in runs)
    if total <= MAX_STEPS:
        return []
    message = f"These runs have {total:,} steps; a batch takes at most {MAX_STEPS:,}"
    return [Problem("/runs", "too_many_steps", message)]


def _step_counts(version_ids: set[UUID]) -> dict[UUID, int]:
    count = Func(
        "plan",
        function="json_array_length",
        template="%(function)s(%(expressions)s -> 'steps')",
        output_field=IntegerField(),
    )
    rows = WorkflowVersion.objects.filter(id__in=version_ids).annotate(steps=count)
    return dict(rows.values_list("id", "steps"))


def _place(problem: Problem) -> int:
    place = problem.loc.split("/")[2:3]
    return int(place[0]) if place and place[0].isdecimal() else -1


def cancel_batch(batch: RunBatch) -> None:
    """Cancel those of its runs that have not ended. Raises BatchStateError if there are none."""
    tenant_id = current_tenant_id()
    with transaction.atomic():
        # Locked in the order of ids, in which all locks of runs are taken.
        live = Run.objects.filter(batch=batch, status__in=LIVE_RUN, stop_wanted="")
        locked = live.order_by("id").select_for_update(no_key=True)
        ids = list(locked.values_list("id", flat=True))
        if not ids:
            raise BatchStateError(_state_of(batch))
        with connection.cursor() as cursor:
            reason = f"Cancelled by {current_actor().name}"
            cursor.execute(_STOP, [tenant_id, RunStatus.CANCELLED, reason, ids])
        note("run_batch.cancelled", object_type="run_batch", object_id=batch.id)
        transaction.on_commit(lambda: publish_advances(tenant_id, ids))


def _state_of(batch: RunBatch) -> str:
    status = batch_status(counts_of([batch.id]).get(batch.id, {}))
    return status.replace("_", " ") if has_ended(status) else f"being {RunStatus.CANCELLED}"
