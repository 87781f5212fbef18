"""`POST runs` at 50 requests a second, and how soon a worker begins on the first agent.

The loop is open: requests leave at set times, whatever the answers to earlier ones do, and a
request that had to wait for its turn counts from the set time. `post` is until the answer has been
read; `start` is from the same moment until the first agent's `started_at`, by the database's clock.
"""

import http.client
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from benchmarks import specs
from benchmarks.harness import Installation, installation
from benchmarks.metering import cpu_figures, percentile, sample

RATE, SECONDS, WARM_UP_SECONDS = 50, 20, 3
CONNECTIONS = 32
ALL = ("agents", "control", "web")
_STARTS = """
SELECT r.id::text, extract(epoch FROM min(a.started_at))::float8
  FROM run r JOIN agent_run a ON a.run_id = r.id WHERE r.id = ANY (%s::uuid[]) GROUP BY r.id
"""


@dataclass(frozen=True, slots=True)
class Sent:
    run: str
    due: float  # by this process's wall clock
    seconds: float


def measure() -> dict[str, Any]:
    with installation() as site:
        site.start_workers("agents", threads=16)
        site.start_control()
        steps = {"first": specs.noop(), "second": specs.noop("first")}
        client = Client(site, site.publish(specs.workflow("two", steps, strategy="levels")))
        client.load(WARM_UP_SECONDS)
        sent: list[Sent] = []
        used = sample(site, ALL, lambda: sent.extend(client.load(SECONDS)))
        for one in sent:
            site.await_run(one.run)
        starts = _starts(site, sent)
    posts = [one.seconds for one in sent]
    return {
        "post_p50_ms": _ms(percentile(posts, 0.5)),
        "post_p99_ms": _ms(percentile(posts, 0.99)),
        "start_p50_ms": _ms(percentile(starts, 0.5)),
        "start_p99_ms": _ms(percentile(starts, 0.99)),
        "requests": len(sent),
        "per_s": round(len(sent) / used.wall, 1),
        **cpu_figures(used, len(sent), "run"),
        "settings": {
            "rate": RATE,
            "seconds": SECONDS,
            "loop": "open",
            "connections": CONNECTIONS,
            "steps": 2,
            "web_processes": 1,
            "fsync": True,
        },
    }


class Client:
    """Sends on connections that are kept alive, one for each of its threads."""

    def __init__(self, site: Installation, workflow: str) -> None:
        self._site = site
        self._body = {"workflow": workflow, "input": {}}
        self._own = threading.local()
        self._threads = ThreadPoolExecutor(CONNECTIONS)

    def load(self, seconds: int) -> list[Sent]:
        begin = time.time() + 0.1
        waiting = []
        for number in range(RATE * seconds):
            due = begin + number / RATE
            time.sleep(max(0.0, due - time.time()))
            waiting.append(self._threads.submit(self._send, due))
        return [one.result() for one in waiting]

    def _send(self, due: float) -> Sent:
        status, answer = self._site.post(self._connection(), "runs", self._body)
        if status != 202:
            raise RuntimeError(f"POST runs answered {status}: {answer}")
        return Sent(run=answer["id"], due=due, seconds=time.time() - due)

    def _connection(self) -> http.client.HTTPConnection:
        if not hasattr(self._own, "connection"):
            self._own.connection = self._site.connection()
        connection: http.client.HTTPConnection = self._own.connection
        return connection


def _starts(site: Installation, sent: list[Sent]) -> list[float]:
    ahead = _database_ahead(site)
    rows = site.database.execute(_STARTS, [[one.run for one in sent]]).fetchall()
    started = {run: at for run, at in rows if at is not None}
    return [started[one.run] - ahead - one.due for one in sent]


def _database_ahead(site: Installation) -> float:
    """Seconds by which the database's clock is ahead of ours, within a round trip."""
    before = time.time()
    theirs = site.value("SELECT extract(epoch FROM clock_timestamp())::float8")
    return float(theirs) - (before + time.time()) / 2


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
