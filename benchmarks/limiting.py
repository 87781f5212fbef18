"""The limiter over a server of its own, as the benchmarks of it need it."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID, uuid4

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orchestrator.settings.dev")
os.environ.setdefault("SECRET_KEY", "only-for-the-benchmark")
for _name in ("DATABASE_URL", "SYSTEM_DATABASE_URL", "MIGRATION_DATABASE_URL"):
    # Named, so that the settings load; nothing connects to it.
    os.environ.setdefault(_name, "postgres://nobody@127.0.0.1:1/none")
django.setup()

import redis  # noqa: E402

from benchmarks.harness import tell  # noqa: E402
from orchestrator.core.limits import (  # noqa: E402
    CallFacts,
    Counting,
    LimitedScope,
    Period,
    Tier,
    Unit,
)
from orchestrator.core.limits.tiers import PERIOD_SECONDS  # noqa: E402
from orchestrator.embedded.testing import test_servers  # noqa: E402
from orchestrator.limits.limiter import Limits  # noqa: E402
from orchestrator.limits.scopes import Applied, Subject  # noqa: E402
from orchestrator.limits.store import Store  # noqa: E402

LEASE_US = 30_000_000
PLENTY = 1_000_000_000


class NoBooks:
    """An installation that has never called a model."""

    def open_calls(self) -> list[CallFacts]:
        return []

    def idle_us(self) -> int:
        return 10**15

    def used(self, subject: Subject, tiers: Sequence[Tier], raw: int) -> dict[str, float]:
        return {tier.key: 0.0 for tier in tiers}


@contextmanager
def redis_server() -> Iterator[str]:
    with test_servers() as servers:
        tell("the server is up")
        yield servers.redis_url


def client(url: str, *, connections: int) -> redis.Redis:
    pool = redis.BlockingConnectionPool.from_url(url, max_connections=connections, timeout=30)
    return redis.Redis(connection_pool=pool)


def limiter(connection: redis.Redis, scopes: tuple[LimitedScope, ...]) -> Limits:
    applied = Applied(scopes=scopes, subjects=(Subject(),) * len(scopes), target=scopes[0])
    store = Store(connection, token=uuid4().hex, lease_us=LEASE_US, grace_us=0)
    return Limits(store, books=NoBooks(), limits_of=lambda _: applied)


def tier(unit: Unit, limit: int, period: Period = Period.MINUTE, capacity: int = 0) -> Tier:
    if unit is Unit.CONCURRENT:
        counting, length = Counting.CONCURRENT, 0
    else:
        counting, length = Counting.BUCKET, PERIOD_SECONDS[period] * 1_000_000
    return Tier(
        key=f"{unit}:{period}",
        name=f"{unit} per {period}",
        unit=unit,
        counting=counting,
        limit=limit,
        capacity=capacity or limit,
        period_us=length,
    )


def call(tenant: int = 1, waiter: str = "", tokens: int = 0) -> CallFacts:
    call_id = uuid4()
    return CallFacts(
        call_id=call_id,
        waiter=waiter or str(call_id),
        tenant_id=UUID(int=tenant),
        weight=1,
        project_id=UUID(int=1),
        workflow_id=UUID(int=1),
        agent="",
        provider="simulated",
        model="m",
        credential_id=None,
        amounts={Unit.REQUESTS: 1, Unit.INPUT: tokens, Unit.TOTAL: 2 * tokens},
        hold_nano=0,
        budgets=(),
    )
