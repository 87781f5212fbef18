"""Five hundred listeners on one web process. Run by hand; prints figures:

pytest tests/load/test_event_streams.py -s
"""

import asyncio
import json
import subprocess
import time
from collections.abc import Iterator

import psutil
import pytest

from orchestrator.dispatch.live import nudge
from orchestrator.embedded.commands import REPOSITORY, web
from orchestrator.embedded.ports import free_port
from orchestrator.models import Run, RunEvent
from tests.eventually import eventually
from tests.run_rows import make_run, published
from tests.world import World

LISTENERS = 500
TICK = "test.tick"


class Crowd:
    """Listeners, each of which hears its run tick some times and hangs up."""

    def __init__(self, port: int, key: str, ticks: int) -> None:
        self._port, self._key, self._ticks = port, key, ticks
        self._at_once = asyncio.Semaphore(32)
        self.open = 0
        self.delays: list[float] = []

    async def hear(self, run: Run) -> None:
        async with self._at_once:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            writer.write(self._request(run))
            await reader.readuntil(b"event: run.created")
            self.open += 1
        for _ in range(self._ticks):
            await reader.readuntil(f"event: {TICK}\ndata: ".encode())
            told = json.loads(await reader.readline())
            self.delays.append(time.time() - told["data"]["sent"])
        writer.close()

    def _request(self, run: Run) -> bytes:
        lines = (
            f"GET /api/v1/runs/{run.pk}/events HTTP/1.1",
            "Host: localhost",
            f"Authorization: Bearer {self._key}",
            "Accept: text/event-stream",
        )
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


@pytest.fixture
def site(live_db: None) -> Iterator[tuple[psutil.Process, int]]:
    port = free_port()
    with subprocess.Popen(
        web("--host", "127.0.0.1", "--port", str(port)), cwd=REPOSITORY
    ) as process:
        try:
            eventually(lambda: _is_open(port), within=60)
            yield psutil.Process(process.pid), port
        finally:
            process.terminate()


def _is_open(port: int) -> bool:
    return any(each.laddr.port == port for each in psutil.net_connections("tcp4"))


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("runs", "ticks", "per_second"),
    [(1, 100, 10), (LISTENERS, 1, 50)],
    ids=["of one run", "of a run each"],
)
def test_many_listeners(
    acme: World, site: tuple[psutil.Process, int], runs: int, ticks: int, per_second: int
) -> None:
    process, port = site
    version = published(acme)
    watched = [make_run(acme, version, "pending", status="running") for _ in range(runs)]
    key = acme.key("runs:read")

    async def scene() -> dict[str, object]:
        first = Crowd(port, key, ticks=0)
        await first.hear(watched[0])  # loads whatever is loaded once
        crowd, idle = Crowd(port, key, ticks), process.memory_info().rss
        began = time.perf_counter()
        listening = [asyncio.create_task(crowd.hear(watched[at % runs])) for at in range(LISTENERS)]
        while crowd.open < LISTENERS:
            await asyncio.sleep(0.05)
        opened, cpu = time.perf_counter() - began, sum(process.cpu_times()[:2])
        for number in range(ticks * runs):
            due = time.perf_counter() + 1 / per_second
            await asyncio.to_thread(_tick, acme, watched[number % runs])
            await asyncio.sleep(max(0, due - time.perf_counter()))
        busy, peers = process.memory_info().rss, _peers(process, port)
        await asyncio.wait_for(asyncio.gather(*listening), 60)
        delays = sorted(crowd.delays)
        return {
            "listeners": LISTENERS,
            "runs": runs,
            "opened_in_s": round(opened, 1),
            "heard": len(delays),
            "p50_ms": round(1000 * delays[len(delays) // 2], 1),
            "p99_ms": round(1000 * delays[len(delays) * 99 // 100], 1),
            "cpu_s": round(sum(process.cpu_times()[:2]) - cpu, 1),
            "rss_mb": [idle >> 20, busy >> 20, process.memory_info().rss >> 20],
            "threads": process.num_threads(),
            "server_connections": peers,
        }

    figures = asyncio.run(scene())

    print(json.dumps(figures))  # noqa: T201  they are what it is for
    assert figures["heard"] == LISTENERS * ticks


def _tick(world: World, run: Run) -> None:
    with world.scope():
        RunEvent.objects.create(
            tenant=world.tenant, run_id=run.pk, type=TICK, data={"sent": time.time()}
        )
    nudge(run.pk)


def _peers(process: psutil.Process, port: int) -> int:
    """Connections to PostgreSQL and Redis, which are what is not a listener's."""
    established = [c for c in process.net_connections("tcp4") if c.raddr]
    return sum(c.laddr.port != port for c in established)
