"""Many threads ask, one reads."""

import threading
from concurrent.futures import ThreadPoolExecutor

from tenants.loading import SingleFlight

THREADS = 8


class Slow:
    """Reads when told to, and counts how often."""

    def __init__(self) -> None:
        self.reads = 0
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.error: Exception | None = None

    def __call__(self, key: str) -> str:
        self.reads += 1
        self.begun.set()
        self.may_end.wait(10)
        if self.error:
            raise self.error
        return key.upper()


def all_at_once(slow: Slow, load: SingleFlight[str, str]) -> list[object]:
    """What each thread got: all have asked before the one that reads may end."""
    asked = threading.Semaphore(0)

    def ask() -> object:
        asked.release()
        try:
            return load("a")
        except ValueError as error:
            return error

    with ThreadPoolExecutor(THREADS) as threads:
        first = threads.submit(ask)
        slow.begun.wait(10)
        others = [threads.submit(ask) for _ in range(THREADS - 1)]
        for _ in range(THREADS):
            asked.acquire(timeout=10)
        slow.may_end.set()
        return [one.result(10) for one in (first, *others)]


def test_threads_that_ask_meanwhile_share_one_read() -> None:
    slow = Slow()

    assert all_at_once(slow, SingleFlight(slow)) == ["A"] * THREADS
    assert slow.reads < THREADS


def test_a_failure_is_shared_and_not_kept() -> None:
    slow = Slow()
    slow.error = ValueError("away")
    load = SingleFlight(slow)

    assert all(isinstance(got, ValueError) for got in all_at_once(slow, load))
    slow.error = None
    assert load("a") == "A"


def test_keys_do_not_wait_for_each_other() -> None:
    slow = Slow()
    load: SingleFlight[str, str] = SingleFlight(lambda key: slow(key) if key == "a" else key)

    with ThreadPoolExecutor(1) as threads:
        stuck = threads.submit(load, "a")
        slow.begun.wait(10)
        assert load("b") == "b"
        slow.may_end.set()
        assert stuck.result(10) == "A"


def test_the_next_to_ask_reads_anew() -> None:
    slow = Slow()
    slow.may_end.set()
    load = SingleFlight(slow)

    load("a")
    load("a")

    assert slow.reads == 2
