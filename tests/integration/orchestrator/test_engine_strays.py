"""Messages that outlive what they are about, or meet servers that have just gone."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import psycopg
import pytest
from kombu.exceptions import BatchPublishError

from orchestrator.celery import app
from orchestrator.dispatch.canvas import publish_advance
from orchestrator.execution import engine_db
from orchestrator.services import agent_runs
from orchestrator.services.advance import advance
from tests.e2e.stories import echo, start, statuses
from tests.world import World


def test_advance_of_a_run_that_is_gone_does_nothing(acme: World) -> None:
    advance(acme.tenant.id, uuid4())


def test_agent_run_that_is_gone_is_not_executed(acme: World) -> None:
    agent_runs.execute(acme.tenant.id, uuid4(), worker="w1")


def test_broker_that_vanishes_in_the_middle_of_a_batch_is_no_error(
    acme: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def breaking() -> Iterator[None]:
        yield
        raise BatchPublishError("delivery is uncertain")

    monkeypatch.setattr(app, "batch", breaking)

    publish_advance(acme.tenant.id, uuid4())


def test_advance_outlives_a_moment_without_database(
    acme: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = start(acme, {"a": echo(value=1)})
    begin, away = engine_db.transaction, iter([True])

    def failing_once(*args: str) -> object:
        if next(away, False):
            raise psycopg.OperationalError("the server is gone")
        return begin(*args)

    monkeypatch.setattr(engine_db, "transaction", failing_once)

    advance(acme.tenant.id, run_id)

    assert statuses(acme, run_id) == {"a": "queued"}
