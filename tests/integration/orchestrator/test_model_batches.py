"""Steps that say `batch`: their calls wait in batches, and are held, made and paid once."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.conf import settings
from llmock.routers import batch as llmock_batches
from llmock.testing import LLMockServer

from costs.models import Budget, BudgetPeriod, CostEntry, TenantPrice
from orchestrator.execution import engine_db
from orchestrator.execution.providers import provider_settings
from orchestrator.models import BatchedCall, LlmCall, ModelBatch, Run, RunEvent
from orchestrator.services import agent_runs, control, model_batches, retention
from orchestrator.services.advance import advance
from orchestrator.services.deletion import WorkflowBusyError, delete_workflow
from orchestrator.services.ledger_checks import check_ledger
from orchestrator.services.sweep import sweep
from tenants.kernel.clock import now
from tests.e2e.stories import simulated, start
from tests.engine_driver import drain, queued, run_of, step_of
from tests.eventually import eventually
from tests.model_servers import batches_over_in, llmock
from tests.rest import call
from tests.world import World

DUE = """
UPDATE model_batch SET due_at = clock_timestamp() - interval '1 s', lease_until = NULL
 WHERE tenant_id = %s AND status <> 'ended' RETURNING id
"""
OLD = "UPDATE model_batch SET submitted_at = now() - interval '27 hours' RETURNING 1"
LATE = "UPDATE batched_call SET until = clock_timestamp() RETURNING 1"
WAKE = "UPDATE agent_run SET due_at = clock_timestamp() WHERE run_id = %s RETURNING 1"
EXPIRE = """
UPDATE agent_run SET lease_until = clock_timestamp() - interval '1 s'
 WHERE run_id = %s AND status = 'running' RETURNING id
"""

WAKE_RETRIES = """
UPDATE agent_run SET due_at = clock_timestamp()
 WHERE run_id = %s AND status = 'waiting' AND waiting_for = 'retry' RETURNING id
"""


class PowerCutError(BaseException):
    """What ends a process ends it here as well, past all that catches errors."""


def asks(prompt: str = "What is it?", *, batch: Any = True, **parameters: Any) -> dict[str, Any]:
    return {**simulated(prompt, **{"batch_seconds": 0, **parameters}), "batch": batch}


def began(world: World, *, header: dict[str, Any] | None = None, **steps: Any) -> UUID:
    """A run that goes as far as it can without its batches."""
    run_id = start(world, steps or {"a": asks()}, **(header or {}))
    drain(world, run_id)
    return run_id


def tend(world: World) -> None:
    """Whatever is to be done about the tenant's batches next, without waiting for its time."""
    engine_db.many(DUE, world.tenant.id, alias="system")
    model_batches.tend()


def tend_for_ever(world: World) -> None:
    while True:
        tend(world)


def finished(world: World, run_id: UUID) -> Run:
    def look() -> Run | None:
        tend(world)
        engine_db.many(WAKE_RETRIES, run_id, alias="system")
        sweep()
        run = drain(world, run_id)
        return run if run.finished_at else None

    return eventually(look)


def calls_of(world: World, run_id: UUID) -> list[LlmCall]:
    with world.scope():
        return list(LlmCall.objects.filter(run_id=run_id).order_by("created_at"))


def batches_of(world: World) -> list[ModelBatch]:
    with world.scope():
        return list(ModelBatch.objects.order_by("created_at"))


def books_agree(world: World) -> bool:
    ours = str(world.tenant.id)
    return not [row for row in check_ledger().differences if str(row["tenant_id"]) == ours]


def money(world: World) -> Budget:
    with world.scope():
        facts = {"provider": "simulated", "model": "*", "valid_from": now().date()}
        TenantPrice.objects.using("system").create(
            tenant=world.tenant, input_usd=10, output_usd=10, **facts
        )
        return Budget.objects.create(name="All", scope="tenant", limit_nano=10**12)


def held_and_spent(world: World, budget: Budget) -> tuple[int, int]:
    with world.scope():
        period = BudgetPeriod.objects.get(budget=budget)
    return period.held_nano, period.spent_nano


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
        assert RunEvent.objects.filter(run_id=run_id, type="llm_call.batched").count() == 1


def test_calls_to_one_model_share_a_batch_and_others_do_not(acme: World) -> None:
    other = {**asks(), "model": "sim-2"}

    run_id = began(acme, a=asks(), b=asks("What else?"), c=other)

    assert sorted(batch.requests for batch in batches_of(acme)) == [1, 2]
    assert finished(acme, run_id).status == "completed"


def test_full_batch_takes_no_more(acme: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "MUSTER_BATCH_REQUESTS", 2)

    began(acme, **{name: asks(name) for name in ("a", "b", "c")})

    found = sorted((batch.status, batch.requests) for batch in batches_of(acme))
    assert found == [("collecting", 1), ("sending", 2)]


def test_tenants_do_not_share_batches(acme: World, globex: World) -> None:
    began(acme), began(globex)

    assert (len(batches_of(acme)), len(batches_of(globex))) == (1, 1)


def test_call_is_held_while_it_waits_and_charged_half_the_price(acme: World) -> None:
    budget = money(acme)
    whole = began(acme, a={**asks(), "batch": False})
    _, at_once = held_and_spent(acme, budget)
    run_id = began(acme)
    held, _ = held_and_spent(acme, budget)

    finished(acme, run_id)

    assert held > 0
    assert held_and_spent(acme, budget) == (0, at_once * 3 // 2)
    assert step_of(acme, run_id, "a").cost_nano * 2 == step_of(acme, whole, "a").cost_nano
    assert books_agree(acme)


def test_call_that_does_not_fit_into_its_budget_is_not_put_into_a_batch(acme: World) -> None:
    money(acme)

    run_id = began(acme, header={"max_cost_usd": "0.000000001"})

    assert run_of(acme, run_id).status == "budget_exceeded"
    assert calls_of(acme, run_id) == []


def test_conversation_is_batched_turn_by_turn(acme: World) -> None:
    script = [
        {"tool_calls": [{"name": "calculator", "arguments": {"expression": "6 * 7"}}]},
        {"text": "It is 42."},
    ]
    agent = {"type": "react", "provider": "simulated", "model": "sim", "tools": ["calculator"]}
    parameters = {"script": script, "batch_seconds": 0}
    run_id = began(acme, a={"agent": agent, "prompt": "?", "parameters": parameters, "batch": True})

    assert finished(acme, run_id).output == "It is 42."
    assert [(call.turn, call.status) for call in calls_of(acme, run_id)] == [
        (1, "closed"),
        (2, "closed"),
    ]
    assert len(batches_of(acme)) == 2


def test_expired_request_is_tried_again_as_the_step_says(acme: World) -> None:
    expiring = {**asks(batch_expires=True), "retry": {"attempts": 2}}
    run_id = began(acme, a=expiring)

    assert finished(acme, run_id).status == "failed"
    assert [(call.status, call.cost_nano) for call in calls_of(acme, run_id)] == [
        ("failed", 0),
        ("failed", 0),
    ]
    assert "timeout" in step_of(acme, run_id, "a").status_reason
    assert books_agree(acme)


def test_final_error_fails_the_step_at_once(acme: World) -> None:
    run_id = began(acme, a=asks(fail_attempts=["auth"]))

    assert finished(acme, run_id).status == "failed"
    assert len(calls_of(acme, run_id)) == 1


def test_what_failed_in_a_batch_falls_back_once(acme: World) -> None:
    chain = [{"provider": "simulated", "model": "sim-2"}, {"provider": "simulated", "model": "s3"}]
    step = {**asks(batch_expires=True), "retry": {"attempts": 1}, "fallback": chain}
    run_id = began(acme, a=step)

    assert finished(acme, run_id).status == "failed"
    assert [call.model for call in calls_of(acme, run_id)] == ["sim", "sim-2", "s3"]


def test_answer_before_the_step_has_come_to_wait_is_not_missed(
    acme: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = agent_runs.finish

    def later(*given: Any, **named: Any) -> Any:
        tend(acme), tend(acme)
        return finish(*given, **named)

    run_id = start(acme, {"a": asks()})
    advance(acme.tenant.id, run_id)
    (only,) = queued(acme, run_id)
    with monkeypatch.context() as patch:
        patch.setattr(agent_runs, "finish", later)
        agent_runs.execute(acme.tenant.id, only.id, worker="w1")

    assert calls_of(acme, run_id)[0].status == "closed"
    sweep()
    assert drain(acme, run_id).status == "completed"


def test_worker_that_dies_behind_the_batch_leaves_the_call_in_it(
    acme: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = start(acme, {"a": asks()})
    advance(acme.tenant.id, run_id)
    (only,) = queued(acme, run_id)
    with monkeypatch.context() as patch:
        patch.setattr(agent_runs, "_finish", lambda *given: False)
        agent_runs.execute(acme.tenant.id, only.id, worker="w1")

    engine_db.many(EXPIRE, run_id, alias="system")
    sweep()
    drain(acme, run_id)

    assert step_of(acme, run_id, "a").waiting_for == "batch"
    assert finished(acme, run_id).status == "completed"
    assert [call.status for call in calls_of(acme, run_id)] == ["closed"]
    assert books_agree(acme)


def test_cancelled_run_takes_its_calls_out_of_what_is_not_sent(acme: World) -> None:
    budget = money(acme)
    run_id = began(acme)
    stop(acme, run_id)

    tend(acme)

    (call,) = calls_of(acme, run_id)
    assert (call.status, call.cost_nano) == ("failed", 0)
    assert held_and_spent(acme, budget) == (0, 0)
    (batch,) = batches_of(acme)
    assert (batch.status, batch.sent_at) == ("ended", None)
    assert books_agree(acme)


def test_answer_of_a_cancelled_run_is_charged_when_it_comes(acme: World) -> None:
    budget = money(acme)
    run_id = began(acme, a=asks(batch_seconds=0.5))
    tend(acme)
    stop(acme, run_id)
    held, _ = held_and_spent(acme, budget)

    eventually(lambda: tend(acme) or batches_of(acme)[0].status == "ended")

    (call,) = calls_of(acme, run_id)
    assert held > 0
    assert (call.status, run_of(acme, run_id).cost_nano) == ("closed", call.cost_nano)
    assert call.cost_nano > 0
    assert batches_of(acme)[0].cancel_asked_at is not None
    assert held_and_spent(acme, budget) == (0, call.cost_nano)
    assert books_agree(acme)


def test_resumed_run_has_the_answer_that_it_asked_for_before(acme: World) -> None:
    run_id = began(acme, a=asks(batch_seconds=0.2))
    tend(acme)
    stop(acme, run_id)
    with acme.scope():
        control.retry_run(run_of(acme, run_id))
    drain(acme, run_id)

    assert finished(acme, run_id).status == "completed"
    assert len(calls_of(acme, run_id)) == 1


def test_step_gives_a_batch_up_when_its_time_is_over(acme: World) -> None:
    late = {**asks(batch_seconds=0.3, batch={"within": "1h"}), "retry": {"attempts": 1}}
    run_id = began(acme, a=late)
    tend(acme)
    engine_db.many(LATE, alias="system")
    engine_db.many(WAKE, run_id, alias="system")
    sweep()

    assert drain(acme, run_id).status == "failed"
    assert "not answered in time" in step_of(acme, run_id, "a").status_reason
    eventually(lambda: tend(acme) or batches_of(acme)[0].status == "ended")
    assert calls_of(acme, run_id)[0].status == "closed"
    assert books_agree(acme)


def test_batch_that_is_never_answered_is_in_doubt_after_its_day(acme: World) -> None:
    money(acme)
    run_id = began(acme, a={**asks(batch_seconds=600), "retry": {"attempts": 1}})
    tend(acme)
    engine_db.many(OLD, alias="system")

    assert finished(acme, run_id).status == "failed"
    (call,) = calls_of(acme, run_id)
    assert (call.status, call.cost_nano) == ("in_doubt", call.hold_nano)
    assert books_agree(acme)


def test_answers_that_nobody_fetched_for_a_day_are_taken_all_the_same(acme: World) -> None:
    run_id = began(acme)
    tend(acme)
    engine_db.many(OLD, alias="system")

    assert finished(acme, run_id).status == "completed"
    assert [call.status for call in calls_of(acme, run_id)] == ["closed"]


@pytest.mark.parametrize("keeps", ["redacted", "none"])
def test_answer_that_comes_after_its_run_is_kept_as_the_tenant_wants(
    acme: World, keeps: str
) -> None:
    call(acme.client(), "PATCH", "call-settings", {"keeps": keeps})
    run_id = began(acme, a=asks(batch_seconds=0.5, text="Ask jane@example.org."))
    tend(acme)
    stop(acme, run_id)
    with acme.scope():
        Run.objects.filter(id=run_id).update(finished_at=now() - timedelta(hours=1))
    retention.forget()

    eventually(lambda: tend(acme) or batches_of(acme)[0].status == "ended")
    (answered,) = calls_of(acme, run_id)
    retention.forget()

    (kept,) = calls_of(acme, run_id)
    assert "jane@example.org" in str(answered.reply)
    assert "jane@example.org" not in str(kept.reply)
    assert kept.cost_nano == answered.cost_nano


def test_workflow_with_calls_in_batches_is_not_deleted(acme: World) -> None:
    run_id = began(acme)
    stop(acme, run_id)

    with acme.scope(), pytest.raises(WorkflowBusyError):
        delete_workflow(run_of(acme, run_id).workflow)


def stop(world: World, run_id: UUID) -> None:
    with world.scope():
        control.cancel_run(run_of(world, run_id))
    assert drain(world, run_id).status == "cancelled"


@pytest.fixture(scope="module")
def server() -> Iterator[LLMockServer]:
    with llmock() as server:
        yield server


@pytest.fixture(params=["openai", "anthropic"])
def vendor(
    request: pytest.FixtureRequest, server: LLMockServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Any]]:
    """A step of a vendor's whose batches go over its protocol to a server written elsewhere."""
    kind = request.param
    known = {
        **settings.MUSTER_PROVIDERS[kind],
        "api_key": "sk-x",
        "base_url": server.base_url(kind),
    }
    monkeypatch.setattr(settings, "MUSTER_PROVIDERS", {**settings.MUSTER_PROVIDERS, kind: known})
    provider_settings.cache_clear()
    model = {"openai": "gpt-4o", "anthropic": "claude-haiku-4-5"}[kind]
    agent = {"type": "prompt", "provider": kind, "model": model}
    with batches_over_in(0):
        yield {"agent": agent, "prompt": "Tell me of tea", "batch": True}
    monkeypatch.undo()
    provider_settings.cache_clear()


def submissions() -> int:
    return len(llmock_batches._batches)


def test_batch_goes_to_the_vendor_and_its_answer_is_charged(
    acme: World, vendor: dict[str, Any]
) -> None:
    run_id = began(acme, a=vendor, b=vendor)

    run = finished(acme, run_id)

    assert run.status == "completed"
    assert step_of(acme, run_id, "a").output
    (batch,) = batches_of(acme)
    assert (batch.status, batch.requests) == ("ended", 2)
    with acme.scope():
        lines = list(CostEntry.objects.filter(run_id=run_id))
    assert [line.kind for line in lines] == ["call", "call"]
    assert all("batch" in line.unit_prices["source"] for line in lines)
    assert books_agree(acme)


@pytest.mark.parametrize("point", ["before_batch", "after_batch", "in_batch"])
def test_power_cut_around_sending_pays_nothing_twice(
    acme: World,
    vendor: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    point: str,
) -> None:
    run_id = began(acme, a=vendor, b=vendor)
    before = submissions()

    def cut(where: str) -> None:
        if where == point:
            raise PowerCutError

    with monkeypatch.context() as patch:
        patch.setattr(model_batches, "crash_here", cut)
        with pytest.raises(PowerCutError):
            tend_for_ever(acme)

    assert finished(acme, run_id).status == "completed"
    assert submissions() - before == 1
    assert [call.status for call in calls_of(acme, run_id)] == ["closed", "closed"]
    assert books_agree(acme)


def test_batch_in_hand_is_nobody_elses(acme: World) -> None:
    began(acme)
    engine_db.many(DUE, acme.tenant.id, alias="system")
    (taken,) = [
        batch
        for batch in model_batches.batch_rows.taken_batches(most=100, lease=model_batches.LEASE)
        if batch.tenant_id == acme.tenant.id
    ]

    assert model_batches.tend() == 0
    engine_db.many(DUE, acme.tenant.id, alias="system")
    assert not model_batches.note(taken, status="sending")


def test_key_that_is_gone_fails_the_steps_whose_calls_were_to_be_made_with_it(
    acme: World, vendor: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = began(acme, a={**vendor, "retry": {"attempts": 1}})
    unusable = {name: {**facts, "api_key": ""} for name, facts in settings.MUSTER_PROVIDERS.items()}
    monkeypatch.setattr(settings, "MUSTER_PROVIDERS", unusable)
    provider_settings.cache_clear()

    assert finished(acme, run_id).status == "failed"
    assert [(call.status, call.cost_nano) for call in calls_of(acme, run_id)] == [("failed", 0)]
