"""Sixty callers of one tenant beside three of another at a shared limit: who gets how much?"""

import threading
import time
from collections import Counter
from typing import Any

from benchmarks.limiting import call, client, limiter, redis_server, tier
from orchestrator.core.limits import LimitedScope, Period, Unit

MANY, FEW, PER_SECOND, SECONDS = 60, 3, 20, 12.0


def measure() -> dict[str, Any]:
    limit = tier(Unit.REQUESTS, PER_SECOND, Period.SECOND, capacity=4)
    granted: Counter[int] = Counter()
    guard = threading.Lock()
    with redis_server() as url:
        ours = limiter(
            client(url, connections=16), (LimitedScope(key="one", name="one", tiers=(limit,)),)
        )
        ours.admit(call())
        until = time.monotonic() + SECONDS

        def wait_and_call(tenant: int, number: int) -> None:
            one = call(tenant=tenant, waiter=f"{tenant}-{number}")
            while time.monotonic() < until:
                answer = ours.admit(one)
                if answer.granted:
                    with guard:
                        granted[tenant] += 1
                    one = call(tenant=tenant, waiter=f"{tenant}-{number}")
                else:
                    time.sleep(min(answer.wait_seconds, max(0.0, until - time.monotonic())))

        callers = [(1, n) for n in range(MANY)] + [(2, n) for n in range(FEW)]
        threads = [threading.Thread(target=wait_and_call, args=who) for who in callers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    total = granted[1] + granted[2]
    return {
        "small_tenant_share": round(granted[2] / total, 3),
        "granted_of_possible": round(total / (PER_SECOND * SECONDS + 4), 3),
        "settings": {"many": MANY, "few": FEW, "per_second": PER_SECOND, "seconds": SECONDS},
    }
