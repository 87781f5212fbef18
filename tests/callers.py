"""Processes full of callers that share limits, for tests of how exact these are."""

import os
import random
import threading
import time
from collections.abc import Sequence
from uuid import UUID, uuid4

import django

if not os.environ.get("DJANGO_SETTINGS_MODULE"):
    os.environ["DJANGO_SETTINGS_MODULE"] = "orchestrator.settings.test"
django.setup()

import redis  # noqa: E402

from orchestrator.core.limits import CallFacts, LimitedScope, Tier, Unit  # noqa: E402
from orchestrator.limits.limiter import Limits  # noqa: E402
from orchestrator.limits.scopes import Applied, Subject  # noqa: E402
from orchestrator.limits.store import Store  # noqa: E402
from tests.limiters import scope, tier  # noqa: E402

PER_SECOND = 60
CAPACITY = 30
PLACES = 12
TOKENS = 6_000
LEASE_US = 2_000_000

SHARED: LimitedScope = scope(
    tier(Unit.REQUESTS, PER_SECOND, per="second", capacity=CAPACITY),  # type: ignore[arg-type]
    tier(Unit.TOTAL, TOKENS, per="second"),  # type: ignore[arg-type]
    tier(Unit.CONCURRENT, PLACES),
    key="shared",
)
APPLIED = Applied(scopes=(SHARED,), subjects=(Subject(),), target=SHARED)


class SharedBooks:
    """What is under way, on a server that nobody wipes: the part of the database."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url)

    def open_calls(self) -> list[CallFacts]:
        return [call(UUID(name.decode()), 0) for name in self._client.hkeys("open")]

    def idle_us(self) -> int:
        return 0

    def used(self, subject: Subject, tiers: Sequence[Tier], raw: int) -> dict[str, float]:
        return {}

    def begin(self, call_id: UUID) -> int:
        """Set down that the call is under way; how many are."""
        pipeline = self._client.pipeline()
        pipeline.hset("open", str(call_id), 1)
        pipeline.hlen("open")
        return int(pipeline.execute()[1])

    def end(self, call_id: UUID) -> None:
        self._client.hdel("open", str(call_id))


def call(call_id: UUID, tokens: int) -> CallFacts:
    return CallFacts(
        call_id=call_id,
        waiter=f"{os.getpid()}-{threading.get_ident()}",
        tenant_id=UUID(int=os.getpid() % 3),
        weight=1,
        project_id=UUID(int=0),
        workflow_id=UUID(int=0),
        agent="",
        provider="simulated",
        model="m",
        credential_id=None,
        amounts={Unit.REQUESTS: 1, Unit.TOTAL: tokens},
        hold_nano=0,
        budgets=(),
    )


def run(url: str, books_url: str, seconds: float, threads: int, told: str) -> None:
    """Call for a time with all threads, and write down what was granted."""
    client = redis.Redis(
        connection_pool=redis.BlockingConnectionPool.from_url(
            url, max_connections=threads, socket_timeout=2, socket_connect_timeout=2
        )
    )
    books = SharedBooks(books_url)
    store = Store(client, token=uuid4().hex, lease_us=LEASE_US, tag="{exact}")
    limits = Limits(store, books=books, limits_of=lambda _: APPLIED)
    lines: list[str] = []
    until = time.monotonic() + seconds

    def work(seed: int) -> None:
        chance = random.Random(seed)
        while time.monotonic() < until:
            one = call(uuid4(), chance.randint(20, 120))
            answer = limits.admit(one)
            if not answer.granted:
                time.sleep(min(answer.wait_seconds, max(0.0, until - time.monotonic())))
                continue
            most = books.begin(one.call_id)
            if chance.random() < 0.2:
                limits.admit(one)  # as if the answer had been lost
            time.sleep(chance.uniform(0, 0.1))
            used = {Unit.TOTAL: chance.randint(1, one.amounts[Unit.TOTAL])}
            books.end(one.call_id)
            for _ in range(chance.randint(1, 2)):
                limits.settle(one.call_id, used)
            lines.append(f"{most} {used[Unit.TOTAL]}")

    workers = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    with open(told, "w") as out:
        out.write("\n".join(lines))
