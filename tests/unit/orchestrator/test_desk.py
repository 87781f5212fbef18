import threading
from functools import partial

import pytest

from orchestrator.services.desk import Desk


class Message:
    """Stands for a request of Celery, which passes a method of it as its last argument."""

    def begin(self) -> None:
        pass


def work(until: threading.Event, *_: object) -> None:
    until.wait()


def unreadable(*_: object) -> None:
    raise TypeError("the body is no task")


@pytest.fixture
def told() -> threading.Semaphore:
    return threading.Semaphore(0)


def desk_of(threads: int, told: threading.Semaphore, *, places: int | None = None) -> Desk:
    desk = Desk(threads, places=places or threads)
    desk.on_place = told.release
    return desk


def test_only_what_no_thread_has_begun_is_called_back() -> None:
    over, begun, waiting = threading.Event(), Message(), Message()
    desk = Desk(1, places=2)
    desk.submit(work, over, begun.begin)
    desk.submit(work, over, waiting.begin)

    assert desk.call_back() == [waiting]
    assert desk.at_work == 1
    over.set()
    desk.await_all_but(lambda: 0, seconds=5)
    assert desk.at_work == 0
    desk.shutdown()


def test_hung_threads_are_not_waited_for() -> None:
    over = threading.Event()
    desk = Desk(1, places=1)
    desk.submit(work, over, Message().begin)

    desk.await_all_but(lambda: 1, seconds=60)

    assert desk.at_work == 1
    over.set()
    desk.shutdown()


@pytest.mark.parametrize("places", [2, 6])
def test_desk_has_places_until_so_many_messages_wait_or_are_at_work(
    told: threading.Semaphore, places: int
) -> None:
    over = threading.Event()
    desk = desk_of(2, told, places=places)

    for _ in range(places):
        assert desk.has_place()
        desk.submit(work, over, Message().begin)

    assert not desk.has_place()
    over.set()
    assert told.acquire(timeout=5)
    assert desk.has_place()
    desk.shutdown()


def test_a_place_is_told_of_once_and_only_where_there_was_none(
    told: threading.Semaphore,
) -> None:
    over, last = threading.Event(), threading.Event()
    desk = desk_of(3, told)
    desk.submit(work, over, Message().begin)
    desk.submit(work, over, Message().begin)
    desk.submit(work, last, Message().begin)
    over.set()
    desk.await_all_but(lambda: 1, seconds=5)

    last.set()
    desk.await_all_but(lambda: 0, seconds=5)

    assert told.acquire(timeout=5)
    assert not told.acquire(blocking=False)
    desk.shutdown()


def test_what_cannot_be_read_leaves_its_place(told: threading.Semaphore) -> None:
    desk = desk_of(1, told)

    for _ in range(5):
        desk.submit(unreadable, Message().begin)
        assert told.acquire(timeout=5)
        assert desk.has_place()
    desk.shutdown()


def test_what_is_called_back_leaves_its_place(told: threading.Semaphore) -> None:
    over = threading.Event()
    desk = desk_of(1, told, places=2)
    desk.submit(work, over, Message().begin)
    desk.submit(work, over, Message().begin)

    desk.call_back()

    assert told.acquire(blocking=False)
    assert desk.has_place()
    over.set()
    desk.shutdown()


def test_whoever_waits_for_a_place_never_waits_in_vain(told: threading.Semaphore) -> None:
    """As Celery's loop does: full, it sleeps until it is told; nobody else wakes it."""
    desk = desk_of(4, told)
    nothing = partial(work, threading.Event())
    nothing.args[0].set()

    for _ in range(5_000):
        while not desk.has_place():
            assert told.acquire(timeout=5)
        desk.submit(nothing, Message().begin)
    desk.shutdown()
