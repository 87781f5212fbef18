"""Nudges over a real Valkey: cheap for the caller, one message a run, silent when it is away."""

import os
import threading
import time
from collections.abc import Iterator
from uuid import UUID

import pytest
import redis

from orchestrator.dispatch.live import NEWS, Nudger, channel_of, run_of
from orchestrator.embedded.ports import free_port
from tenants.kernel.models import uuid7
from tests.eventually import eventually

URL = os.environ["REDIS_URL"]


@pytest.fixture
def nudger() -> Iterator[Nudger]:
    nudger = Nudger(URL)
    yield nudger
    nudger.stop()


@pytest.fixture
def heard() -> Iterator[list[UUID]]:
    """The runs that were nudged, in order, from the moment the test begins."""
    runs: list[UUID] = []
    with redis.Redis.from_url(URL) as client, client.pubsub() as pubsub:
        pubsub.psubscribe("muster:run:*")
        assert eventually(lambda: pubsub.get_message(timeout=1))
        stop = threading.Event()

        def listen() -> None:
            while not stop.is_set():
                message = pubsub.get_message(timeout=0.05)
                if message and message["data"] == NEWS:
                    runs.append(run_of(message["channel"]))

        thread = threading.Thread(target=listen)
        thread.start()
        yield runs
        stop.set()
        thread.join()


def test_nudge_is_heard_on_the_channel_of_its_run(nudger: Nudger, heard: list[UUID]) -> None:
    run_id = uuid7()

    nudger.nudge(run_id)

    eventually(lambda: run_id in heard)
    assert run_of(channel_of(run_id).encode()) == run_id


def test_burst_of_nudges_is_few_messages_and_none_is_forgotten(
    nudger: Nudger, heard: list[UUID]
) -> None:
    runs = [uuid7() for _ in range(20)]

    threads = [
        threading.Thread(target=lambda: [nudger.nudge(run) for run in runs * 100]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    eventually(lambda: set(runs) <= set(heard))
    assert len(heard) < 800


def test_what_is_due_at_the_end_is_still_sent(heard: list[UUID]) -> None:
    # The engine, in tests before this one, has a nudger of its own.
    others = set(threading.enumerate())
    nudger = Nudger(URL)
    first, last = uuid7(), uuid7()
    nudger.nudge(first)
    eventually(lambda: first in heard)

    nudger.nudge(last)
    nudger.stop()

    eventually(lambda: last in heard)
    assert not any(thread.name == "nudges" for thread in {*threading.enumerate()} - others)


@pytest.mark.parametrize("url", ["", f"redis://127.0.0.1:{free_port()}/0"], ids=["not set", "away"])
def test_absent_redis_holds_up_nobody(url: str) -> None:
    nudger = Nudger(url)

    began = time.monotonic()
    for _ in range(1000):
        nudger.nudge(uuid7())

    assert time.monotonic() - began < 1
    nudger.stop()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_child_process_nudges_with_a_thread_of_its_own(heard: list[UUID]) -> None:
    from orchestrator.dispatch import live

    ours, theirs = uuid7(), uuid7()
    live.nudge(ours)
    eventually(lambda: ours in heard)

    child = os.fork()
    if child == 0:
        live.nudge(theirs)
        live._nudger.stop()
        os._exit(0)
    os.waitpid(child, 0)

    eventually(lambda: theirs in heard)


def test_nudging_leaves_nothing_in_redis(nudger: Nudger, heard: list[UUID]) -> None:
    run_id = uuid7()

    nudger.nudge(run_id)
    eventually(lambda: run_id in heard)

    with redis.Redis.from_url(URL) as client:
        assert [key for key in client.scan_iter("muster:*") if str(run_id).encode() in key] == []
