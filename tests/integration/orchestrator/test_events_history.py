"""Reading a history while it is written: late, if need be, but never past an event."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection

from orchestrator.models import Run, RunEvent
from orchestrator.selectors.events import Place, events_after, horizon, news
from tests.run_rows import make_run, published
from tests.world import World

RUNNING_STEPS = {
    "outline": "completed",
    "facts": "running",
    "quotes": "completed",
    "draft": "pending",
    "review": "pending",
}


@pytest.fixture
def run(acme: World) -> Run:
    return make_run(acme, published(acme), RUNNING_STEPS, status="running")


def write(run: Run, kind: str) -> int:
    event = RunEvent.objects.create(tenant_id=run.tenant_id, run=run, type=kind, data={})
    return int(event.pk)


def types_of(world: World, run: Run, after: int = 0) -> list[str]:
    with world.scope():
        return [event.type for event in events_after(run, after)]


class Writer:
    """A transaction of another process, step by step."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._pool = ThreadPoolExecutor(1)
        self._end = threading.Event()
        self._scope: Any = None

    def do(self, work: Callable[[], object]) -> object:
        return self._pool.submit(work).result(timeout=30)

    def begin(self) -> None:
        def enter() -> None:
            self._scope = self._world.scope()
            self._scope.__enter__()
            # Gets the transaction its number, as the first row that it writes would.
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_current_xact_id()")

        self.do(enter)

    def commit(self) -> None:
        self.do(lambda: (self._scope.__exit__(None, None, None), connection.close()))
        self._pool.shutdown()


@contextmanager
def writer(world: World) -> Iterator[Writer]:
    started = Writer(world)
    started.begin()
    yield started


def test_open_transaction_with_an_event_holds_back_what_is_behind(acme: World, run: Run) -> None:
    before = types_of(acme, run)
    with writer(acme) as slow:
        slow.do(lambda: write(run, "test.slow"))
        with acme.scope():
            write(run, "test.quick")

        early = types_of(acme, run)
        slow.commit()

    assert early == before
    assert types_of(acme, run) == [*before, "test.slow", "test.quick"]


def test_older_transaction_that_writes_later_hides_nobody(acme: World, run: Run) -> None:
    """The order of transactions is not that of ids: what is committed may have lower ids yet."""
    last = len(types_of(acme, run))
    with writer(acme) as older, writer(acme) as younger:
        younger.do(lambda: write(run, "test.first"))
        older.do(lambda: write(run, "test.second"))
        older.commit()

        assert types_of(acme, run)[last:] == []
        younger.commit()

    assert types_of(acme, run)[last:] == ["test.first", "test.second"]


def test_open_transaction_without_an_event_delays_nobody(acme: World, run: Run) -> None:
    before = types_of(acme, run)
    with writer(acme) as idle:
        with acme.scope():
            write(run, "test.quick")

        assert types_of(acme, run) == [*before, "test.quick"]
        idle.commit()


@pytest.mark.usefixtures("acme")
def test_horizon_without_writers_is_far() -> None:
    assert horizon() == horizon()
    assert horizon().is_far


def test_news_of_several_tenants_are_read_in_their_scopes(acme: World, globex: World) -> None:
    runs = {
        world: make_run(world, published(world), RUNNING_STEPS, status="running")
        for world in (acme, globex)
    }
    places = [
        Place(tenant_id=world.tenant.id, run_id=run.id, after=0) for world, run in runs.items()
    ]

    found = dict(news(places, until=horizon().id))

    for place in places:
        assert {event.run_id for event in found[place].events} == {place.run_id}


def test_place_in_another_tenants_run_has_no_news(acme: World, globex: World, run: Run) -> None:
    stranger = Place(tenant_id=globex.tenant.id, run_id=run.id, after=0)

    ((_, found),) = news([stranger], until=horizon().id)

    assert found.events == []
    assert found.is_last


@pytest.mark.parametrize(("status", "is_last"), [("running", False), ("completed", True)])
def test_only_an_ended_runs_last_news_are_last(acme: World, status: str, is_last: bool) -> None:
    states = RUNNING_STEPS if status == "running" else "completed"
    run = make_run(acme, published(acme), states, status=status)
    place = Place(tenant_id=acme.tenant.id, run_id=run.id, after=0)

    ((_, found),) = news([place], until=horizon().id)

    assert found.is_last is is_last
    ((_, cut),) = news([place], until=found.events[0].id)
    assert not cut.is_last
