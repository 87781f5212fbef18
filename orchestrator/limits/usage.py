"""How much of each limit is used, and who waits for it: read, without changing anything."""

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import redis

from orchestrator.core.limits import Counting, LimitedScope, Tier
from orchestrator.core.limits.levels import Level, enter_window, window_end, window_start
from orchestrator.limits.keys import Keys, meta_key

_TICKET = struct.Struct("<8d")


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiter:
    waiter: str
    tenant: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TierUsage:
    """`used` is None if nothing is known: the tier has granted nothing for long, if ever.

    `refills_seconds` is when a bucket will be full, or the next window begins. The counters
    begin anew when a limit was not used for a day.
    """

    used: float | None
    left: float | None
    refills_seconds: float | None
    grants: int = 0
    denials: int = 0
    waited_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeUsage:
    tiers: Mapping[str, TierUsage]
    paused_seconds: float
    waiters: tuple[Waiter, ...]


@dataclass(frozen=True, slots=True)
class _Clock:
    raw: float
    now: float
    opened: float


def usage_of(client: redis.Redis, scopes: Sequence[LimitedScope]) -> dict[str, ScopeUsage] | None:
    """The usage of each scope by its key, or None while the limiter knows nothing.

    Raises redis.RedisError.
    """
    known: list[Any] = client.hmget(meta_key(), ["epoch", "skew", "opened"])
    if known[0] is None:
        return None
    keys = Keys(known[0].decode())
    seconds, microseconds = client.time()
    raw = int(seconds) * 1_000_000 + int(microseconds)
    clock = _Clock(raw, raw + float(known[1]), float(known[2]))
    pipeline = client.pipeline(transaction=False)
    for scope in scopes:
        _ask(pipeline, keys, scope, clock)
    answers = iter(pipeline.execute())
    return {scope.key: _scope_usage(scope, partial(next, answers), clock) for scope in scopes}


def _ask(pipeline: Any, keys: Keys, scope: LimitedScope, clock: _Clock) -> None:
    key = keys.scope(scope.key)
    pipeline.hmget(key, ["pause", "alive", *(tier.key for tier in scope.tiers)])
    pipeline.hgetall(f"{key}:t")
    for tier in _places(scope.tiers):
        pipeline.zcount(keys.place(scope.key, tier.key), f"({clock.now:.0f}", "+inf")


def _places(tiers: Iterable[Tier]) -> list[Tier]:
    return [tier for tier in tiers if tier.counting is Counting.CONCURRENT]


def _scope_usage(scope: LimitedScope, answer: Any, clock: _Clock) -> ScopeUsage:
    pause, alive, *found = answer()
    tickets = answer()
    taken = {tier.key: answer() for tier in _places(scope.tiers)}
    return ScopeUsage(
        tiers={
            tier.key: _tier_usage(tier, packed, taken.get(tier.key), clock)
            for tier, packed in zip(scope.tiers, found, strict=True)
        },
        paused_seconds=max(0.0, float(pause or 0) - clock.now) / 1_000_000,
        waiters=_waiters(tickets, clock) if float(alive or 0) > clock.now else (),
    )


def _waiters(tickets: Mapping[bytes, bytes], clock: _Clock) -> tuple[Waiter, ...]:
    """In the order of the line."""
    found = []
    for waiter, ticket in tickets.items():
        place, _, since, *_ = _TICKET.unpack_from(ticket)
        tenant = ticket[_TICKET.size :].decode()
        seconds = max(0.0, clock.now - since) / 1_000_000
        found.append((place, Waiter(waiter=waiter.decode(), tenant=tenant, seconds=seconds)))
    return tuple(waiter for _, waiter in sorted(found, key=lambda pair: pair[0]))


def _tier_usage(tier: Tier, packed: bytes | None, taken: int | None, clock: _Clock) -> TierUsage:
    level = _level(packed)
    used, refills = _used(tier, level, taken, clock)
    level = level or Level()
    return TierUsage(
        used=used,
        left=None if used is None else max(0.0, tier.most - used),
        refills_seconds=refills,
        grants=level.grants,
        denials=level.denials,
        waited_seconds=level.waited_us / 1_000_000,
    )


def _used(
    tier: Tier, level: Level | None, taken: int | None, clock: _Clock
) -> tuple[float | None, float | None]:
    """How much, and after how many seconds it will be nothing."""
    if taken is not None:
        return float(taken), None
    if level is None and tier.is_long:
        return None, None
    if tier.counting is Counting.BUCKET:
        # One that was not used since the limiter began, began empty.
        level = level or Level(used=float(tier.capacity), at=clock.opened)
        used = level.now(tier, clock.now)
        return used, used / tier.rate / 1_000_000
    start = window_start(tier, clock.raw) or clock.raw
    level = level or Level(at=start)
    enter_window(level, start)
    return level.used, max(0.0, window_end(tier, level.at) - clock.raw) / 1_000_000


def _level(packed: bytes | None) -> Level | None:
    if packed is None:
        return None
    used, at, grants, denials, waited, *_ = struct.unpack(f"<{len(packed) // 8}d", packed)
    return Level(used=used, at=at, grants=int(grants), denials=int(denials), waited_us=waited)
