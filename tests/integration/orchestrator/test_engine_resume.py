"""Resumed runs go on at once, and people are not told of the locks of workers."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from uuid import UUID

import psycopg
import pytest
from django.db import connections

from orchestrator.dispatch import canvas
from orchestrator.execution import engine_db
from orchestrator.services import control
from orchestrator.services.advance import advance
from orchestrator.services.control import pause_run, resume_run
from tests.e2e.stories import echo, start
from tests.engine_driver import run_of, step_of
from tests.eventually import eventually
from tests.integration.orchestrator.test_engine_calls import child_of, published
from tests.integration.orchestrator.test_engine_control import act
from tests.world import World

_QUEUE_NONETHELESS = """
WITH gone AS (DELETE FROM ready_agent_run WHERE agent_run_id = %(id)s)
UPDATE agent_run SET status = 'queued', queued_at = now(), published_at = now() WHERE id = %(id)s
"""


@pytest.mark.parametrize("strategy", ["levels", "adaptive"])
def test_what_was_queued_while_the_run_was_being_paused_is_published_again(
    acme: World, strategy: str
) -> None:
    run_id = start(acme, {"a": echo(value=1)}, strategy=strategy)
    advance(acme.tenant.id, run_id)
    act(acme, run_id, pause_run)
    with system() as connection:
        connection.execute(_QUEUE_NONETHELESS, {"id": step_of(acme, run_id, "a").id})
    before = step_of(acme, run_id, "a").published_at

    act(acme, run_id, resume_run)
    advance(acme.tenant.id, run_id)

    step = step_of(acme, run_id, "a")
    assert step.status == "queued"
    assert step.published_at > before


def test_runs_below_are_advanced_with_the_resumed_run(
    acme: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(acme, {"say": echo(value="hello")})
    run_id = start(acme, {"sub": {"workflow": "check"}})
    advance(acme.tenant.id, run_id)
    child = child_of(acme, run_id).id
    advance(acme.tenant.id, child)
    act(acme, run_id, pause_run)
    assert run_of(acme, child).status == "paused"
    told: list[UUID] = []

    def publish(tenant_id: UUID, run_ids: list[UUID]) -> None:
        told.extend(run_ids)
        canvas.publish_advances(tenant_id, run_ids)

    monkeypatch.setattr(control, "publish_advances", publish)
    act(acme, run_id, resume_run)

    assert sorted(told) == sorted([run_id, child])


def test_pause_that_meets_a_worker_in_a_deadlock_is_tried_again(acme: World) -> None:
    run_id = start(acme, {"a": echo(value=1)})
    advance(acme.tenant.id, run_id)
    step = step_of(acme, run_id, "a")

    def pause() -> None:
        act(acme, run_id, pause_run)
        connections.close_all()

    person = threading.Thread(target=pause)
    with system() as worker, worker.transaction():
        worker.execute("SELECT FROM agent_run WHERE id = %s FOR UPDATE", [step.id])
        assert not blocked_by(worker)  # with a connection that is open, the next answer is quick
        person.start()
        eventually(lambda: blocked_by(worker))
        # PostgreSQL ends the one that has waited for a second: the person's.
        worker.execute("SELECT FROM run WHERE id = %s FOR UPDATE", [run_id])
    person.join(10)

    assert run_of(acme, run_id).status == "paused"


def test_who_wakes_a_step_waits_for_its_run_before_it_locks_the_step(acme: World) -> None:
    """As whoever stops the run does, so that they cannot wait for each other."""
    run_id = start(acme, {"a": echo(value=1)})
    advance(acme.tenant.id, run_id)
    step = step_of(acme, run_id, "a").id
    wait = "UPDATE agent_run SET status = 'waiting', due_at = now() WHERE id = %s"
    wake = "SELECT * FROM muster_wake(%s, %s, %s::uuid[])"

    with system() as stopping, ThreadPoolExecutor(1) as other:
        stopping.execute(wait, [step])
        with stopping.transaction():
            stopping.execute("SELECT FROM run WHERE id = %s FOR UPDATE", [run_id])
            woken = other.submit(engine_db.many, wake, acme.tenant.id, run_id, [step])
            eventually(lambda: blocked_by(stopping))
            stopping.execute("SELECT FROM agent_run WHERE id = %s FOR UPDATE NOWAIT", [step])
        assert [row["agent_run_id"] for row in woken.result(10)] == [step]


@contextmanager
def system() -> Iterator[psycopg.Connection]:
    """A connection that sees the rows of all tenants, as a worker of another process."""
    parameters = connections["system"].get_connection_params()
    for name in ("cursor_factory", "context", "prepare_threshold"):
        parameters.pop(name, None)
    with psycopg.connect(**parameters, autocommit=True) as connection:
        yield connection


def blocked_by(worker: psycopg.Connection) -> bool:
    query = "SELECT FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))"
    return bool(engine_db.many(query, worker.info.backend_pid, alias="system"))
