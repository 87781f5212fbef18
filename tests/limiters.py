"""The limiter twice: the model, and the scripts on a server whose clock the test sets."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any
from uuid import UUID, uuid4

import redis
from django.conf import settings

from orchestrator.core.limits import CallFacts, Counting, LimitedScope, Period, Tier, Unit
from orchestrator.core.limits.model import Ask, LimiterModel, Verdict
from orchestrator.core.limits.tiers import PERIOD_SECONDS
from orchestrator.limits.scripts import source
from orchestrator.limits.store import Store
from tenants.kernel.models import uuid7
from tests.world import World

_CLOCK = "clock-of-the-tests"
START = 1_800_000_000_000_000
LEASE_US = 30_000_000


def tier(
    unit: Unit = Unit.REQUESTS,
    limit: int = 10,
    *,
    per: Period = Period.MINUTE,
    capacity: int | None = None,
    counting: Counting = Counting.BUCKET,
    days: tuple[int, ...] = (),
) -> Tier:
    if unit is Unit.CONCURRENT:
        counting = Counting.CONCURRENT
    places = counting is Counting.CONCURRENT
    return Tier(
        key=f"{unit}:{'' if places else per}:{counting}",
        name=f"{unit} per {per}",
        unit=unit,
        counting=counting,
        limit=limit,
        capacity=limit if capacity is None else capacity,
        period_us=0 if places else PERIOD_SECONDS[per] * 1_000_000,
        days=days,
    )


def scope(*tiers: Tier, key: str = "m:openai:gpt-4o") -> LimitedScope:
    return LimitedScope(key=key, name=key, tiers=tiers)


def ask(
    *scopes: LimitedScope,
    call_id: str = "",
    waiter: str = "",
    tenant: str = "acme",
    weight: int = 1,
    amounts: Mapping[Unit, int] | None = None,
    **more: Any,
) -> Ask:
    call_id = call_id or str(uuid4())
    return Ask(
        call_id=call_id,
        waiter=waiter or call_id,
        tenant=tenant,
        weight=weight,
        amounts=amounts if amounts is not None else {Unit.REQUESTS: 1},
        scopes=scopes,
        **more,
    )


class OnServer:
    """The interface of the model over the real scripts, whose clock reads what it is told."""

    def __init__(self, client: redis.Redis, *, lease_us: int = LEASE_US) -> None:
        self.tag = f"{{test-{uuid4().hex}}}"
        self._client = client
        self.store = Store(
            client,
            token="test",
            lease_us=lease_us,
            tag=self.tag,
            grace_us=0,
            sources=_with_set_clock,
        )

    def open(self, raw: int, *, idle_us: float = 0.0) -> None:
        self._set(raw)
        assert self.store.look_at_epoch().is_ours_to_open
        assert self.store.open("1", idle_us=int(idle_us))

    def admit(self, ask: Ask, raw: int) -> Verdict:
        self._set(raw)
        return self.store.admit(ask)

    def seed(self, scope: LimitedScope, tier: Tier, used: float, raw: int) -> None:
        self._set(raw)
        self.store.seed(scope, {tier.key: used})

    def settle(self, call_id: str, used: Mapping[Unit, int], raw: int) -> bool:
        self._set(raw)
        return self.store.settle(call_id, used)

    def release(self, call_id: str, raw: int) -> bool:
        self._set(raw)
        return self.store.release(call_id)

    def leave(self, waiters: Sequence[str], raw: int) -> None:
        self._set(raw)
        self.store.leave(waiters)

    def renew(self, call_ids: Sequence[str], raw: int) -> None:
        self._set(raw)
        self.store.renew(call_ids)

    def pause(self, scope: LimitedScope, seconds: float, raw: int) -> None:
        self._set(raw)
        self.store.pause(scope, seconds=seconds)

    def lower(self, scope: LimitedScope, unit: Unit, remaining: int, raw: int) -> None:
        self._set(raw)
        self.store.lower(scope, {unit: remaining})

    def places_taken(self, scope: str, tier: str) -> int:
        assert self.store.keys is not None
        return self._client.zcard(self.store.keys.place(scope, tier))

    def keys(self) -> list[str]:
        return [key.decode() for key in self._client.scan_iter(f"{self.tag}*", count=10_000)]

    def time_to_live(self, key: str) -> int:
        return self._client.ttl(key)

    def forget(self) -> None:
        keys = self.keys()
        if keys:
            self._client.delete(*keys)

    def _set(self, raw: int) -> None:
        self._client.hset(_CLOCK, mapping={"s": raw // 1_000_000, "us": raw % 1_000_000})


@cache
def _with_set_clock(name: str) -> str:
    text = source(name)
    assert text.count("redis.call('TIME')") == 1
    return text.replace("redis.call('TIME')", f"redis.call('HMGET', '{_CLOCK}', 's', 'us')")


def call(world: World, waiter: str = "", **facts: Any) -> CallFacts:
    """A call of the tenant's, for the limiter of this process."""
    call_id = uuid7()
    return CallFacts(
        **{
            "call_id": call_id,
            "waiter": waiter or str(call_id),
            "tenant_id": world.tenant.id,
            "weight": 1,
            "project_id": world.project.id,
            "workflow_id": UUID(int=1),
            "agent": "",
            "provider": "simulated",
            "model": "m",
            "credential_id": None,
            "amounts": {Unit.REQUESTS: 1, Unit.TOTAL: 800},
            "hold_nano": 0,
            "budgets": (),
            **facts,
        }
    )


def model(*, lease_us: int = LEASE_US) -> LimiterModel:
    return LimiterModel(lease_us=lease_us)


@contextmanager
def server() -> Iterator[Callable[..., OnServer]]:
    """Makes limiters that know nothing of each other."""
    client = redis.Redis.from_url(settings.REDIS_URL)
    made: list[OnServer] = []

    def fresh(**options: Any) -> OnServer:
        made.append(OnServer(client, **options))
        return made[-1]

    try:
        yield fresh
    finally:
        for limiter in made:
            limiter.forget()
        client.close()


__all__ = ["LEASE_US", "START", "OnServer", "ask", "call", "model", "scope", "server", "tier"]
