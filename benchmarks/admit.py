"""Admissions a second, and how long one takes: 4 scopes and 7 tiers in one round trip.

Beside it the same number of callers of a general limiter library, for one key and one tier.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

from pyrate_limiter import Duration, Limiter, Rate, RedisBucket

from benchmarks.harness import tell
from benchmarks.limiting import PLENTY, call, client, limiter, redis_server, tier
from orchestrator.core.limits import LimitedScope, Period, Unit

CALLERS, SECONDS, WARM_SECONDS = (1, 8, 64), 4.0, 0.5


def scopes() -> tuple[LimitedScope, ...]:
    return (
        LimitedScope(
            key="m:simulated:m:own",
            name="simulated m",
            tiers=(
                tier(Unit.REQUESTS, PLENTY),
                tier(Unit.TOTAL, PLENTY),
                tier(Unit.CONCURRENT, 100_000),
            ),
        ),
        LimitedScope(
            key="t:1",
            name="tenant",
            tiers=(tier(Unit.REQUESTS, PLENTY), tier(Unit.REQUESTS, PLENTY, Period.DAY)),
        ),
        LimitedScope(key="j:1", name="project", tiers=(tier(Unit.INPUT, PLENTY),)),
        LimitedScope(key="w:1", name="workflow", tiers=(tier(Unit.CONCURRENT, 100_000),)),
    )


def measure() -> dict[str, Any]:
    figures: dict[str, Any] = {}
    with redis_server() as url:
        connection = client(url, connections=max(CALLERS))
        ours = limiter(connection, scopes())

        def admit() -> None:
            if not ours.admit(call(tokens=200)).granted:
                raise RuntimeError("an admission was refused")

        bucket = RedisBucket.init([Rate(PLENTY, Duration.MINUTE)], connection, "general")
        general = Limiter(bucket)

        def general_admit() -> None:
            if not general.try_acquire("key"):
                raise RuntimeError("the general limiter refused")

        for name, one in (("", admit), ("general_", general_admit)):
            for callers in CALLERS:
                rate, p50, p99 = _pace(one, callers)
                figures[f"{name}per_s_{callers}"] = rate
                figures[f"{name}p50_ms_{callers}"] = p50
                figures[f"{name}p99_ms_{callers}"] = p99
    figures["settings"] = {"scopes": 4, "tiers": 7, "seconds": SECONDS, "processes": 1}
    return figures


def _pace(work: Callable[[], None], callers: int) -> tuple[int, float, float]:
    """A second, and the median and 99th percentile in milliseconds, after warming up."""
    took: list[float] = []
    warm = time.perf_counter() + WARM_SECONDS
    until = warm + SECONDS

    def repeat() -> None:
        own = []
        while (began := time.perf_counter()) < until:
            work()
            if began > warm:
                own.append(time.perf_counter() - began)
        took.extend(own)

    threads = [threading.Thread(target=repeat) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took.sort()
    tell(f"{callers} callers: {len(took) / SECONDS:.0f}/s")
    return (
        round(len(took) / SECONDS),
        round(1000 * took[len(took) // 2], 2),
        round(1000 * took[int(len(took) * 0.99)], 2),
    )
