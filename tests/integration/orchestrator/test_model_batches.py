"""Steps that say `batch`: their calls wait in batches, and are held, made and paid once."""

from typing import Any
from uuid import UUID

import pytest

from orchestrator.execution import engine_db
from orchestrator.models import AgentRun, BatchedCall, LlmCall, ModelBatch, Run, RunEvent
from orchestrator.services import control, model_batches
from orchestrator.services.ledger_checks import check_ledger
from orchestrator.services.sweep import sweep
from tests.e2e.stories import simulated, start
from tests.engine_driver import drain, run_of, step_of
from tests.eventually import eventually
from tests.world import World

NOW = """
UPDATE model_batch SET due_at = clock_timestamp() - interval '1 s', lease_until = NULL
 WHERE tenant_id = %s AND status <> 'ended' RETURNING id
"""


def asks(prompt: str = "What is it?", *, batch: Any = True, **parameters: Any) -> dict[str, Any]:
    return {**simulated(prompt, **{"batch_seconds": 0, **parameters}), "batch": batch}


def began(world: World, **steps: Any) -> UUID:
    """A run that goes as far as it can without its batches."""
    run_id = start(world, steps or {"a": asks()})
    drain(world, run_id)
    return run_id


def tend(world: World) -> None:
    """Whatever is to be done about the tenant's batches next, without waiting for its time."""
    engine_db.many(NOW, world.tenant.id, alias="system")
    model_batches.tend()


def finished(world: World, run_id: UUID) -> Run:
    def look() -> Run | None:
        tend(world)
        run = drain(world, run_id)
        return run if run.finished_at else None

    return eventually(look)


def calls_of(world: World, run_id: UUID) -> list[LlmCall]:
    with world.scope():
        return list(LlmCall.objects.filter(run_id=run_id))


def batches_of(world: World) -> list[ModelBatch]:
    with world.scope():
        return list(ModelBatch.objects.order_by("created_at"))


def test_step_waits_without_a_worker_until_its_batch_is_answered(acme: World) -> None:
    run_id = began(acme)

    step = step_of(acme, run_id, "a")
    assert (step.status, step.waiting_for, step.lease_until) == ("waiting", "batch", None)
    assert [call.status for call in calls_of(acme, run_id)] == ["open"]

    run = finished(acme, run_id)

    assert run.status == "completed"
    (call,) = calls_of(acme, run_id)
    assert (call.status, call.attempt) == ("closed", 1)
    assert [batch.status for batch in batches_of(acme)] == ["ended"]
    with acme.scope():
        assert not BatchedCall.objects.exists()
