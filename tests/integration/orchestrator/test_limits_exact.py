"""Limits under many processes, settled twice, with Redis wiped and brought back stale."""

import multiprocessing
import time
from pathlib import Path

import pytest
import redis
from django.conf import settings

from orchestrator.embedded import processes
from orchestrator.embedded.ports import free_port
from orchestrator.embedded.valkey import Valkey
from tests import callers
from tests.eventually import eventually

PROCESSES, THREADS, SECONDS = 8, 32, 7.0


@pytest.fixture
def books_url() -> str:
    """A database of the tests' server that nothing else uses."""
    url = f"{settings.REDIS_URL.rsplit('/', 1)[0]}/15"
    with redis.Redis.from_url(url) as client:
        client.delete("open")
    return url


def test_no_limit_is_exceeded_whatever_becomes_of_redis(tmp_path: Path, books_url: str) -> None:
    (tmp_path / "logs").mkdir()
    server = Valkey(home=tmp_path, port=free_port(), password="secret", durable=False)
    running = processes.start(server.service(), home=tmp_path)
    fork = multiprocessing.get_context("forkserver")
    fork.set_forkserver_preload(["tests.callers"])
    told = [tmp_path / f"told-{number}" for number in range(PROCESSES)]
    crowd = [
        fork.Process(target=callers.run, args=(server.url, books_url, SECONDS, THREADS, str(path)))
        for path in told
    ]
    try:
        began = time.monotonic()
        for process in crowd:
            process.start()
        client = redis.Redis.from_url(server.url)
        eventually(lambda: client.hget("{exact}:meta", "epoch"))
        time.sleep(1)  # the crowd is to be at work
        client.save()
        client.flushall()
        eventually(lambda: client.hget("{exact}:meta", "epoch"))
        time.sleep(0.5)
        client.close()
        processes.stop(server.service(), running)
        running = processes.start(server.service(), home=tmp_path)
        for process in crowd:
            process.join(60)
        lasted = time.monotonic() - began
    finally:
        for process in crowd:
            process.kill()
        processes.stop(server.service(), running)

    assert [process.exitcode for process in crowd] == [0] * PROCESSES
    lines = [line.split() for path in told for line in path.read_text().splitlines()]
    assert max(int(most) for most, _ in lines) <= callers.PLACES
    assert len(lines) <= callers.PER_SECOND * lasted + callers.CAPACITY
    assert sum(int(tokens) for _, tokens in lines) <= callers.TOKENS * (lasted + 1)
    # After each loss of memory they go on.
    assert len(lines) > callers.PER_SECOND
