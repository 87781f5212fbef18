"""Two hundred callers at a limit of forty a second: how often must one ask to be let through?"""

import threading
import time
from typing import Any

from benchmarks.limiting import call, client, limiter, redis_server, tier
from orchestrator.core.limits import LimitedScope, Period, Unit

WAITERS, PER_SECOND, SECONDS = 200, 40, 8.0


def measure() -> dict[str, Any]:
    limit = tier(Unit.REQUESTS, PER_SECOND, Period.SECOND)
    with redis_server() as url:
        ours = limiter(
            client(url, connections=32), (LimitedScope(key="one", name="one", tiers=(limit,)),)
        )
        ours.admit(call())
        began = time.monotonic()
        until = began + SECONDS
        counts: list[tuple[int, int]] = []

        def wait_and_call(number: int) -> None:
            """Ask again and again: when one call is through, for the next."""
            attempts = grants = 0
            one = call(waiter=str(number))
            while time.monotonic() < until:
                answer = ours.admit(one)
                attempts += 1
                if answer.granted:
                    grants += 1
                    one = call(waiter=str(number))
                else:
                    time.sleep(min(answer.wait_seconds, max(0.0, until - time.monotonic())))
            counts.append((attempts, grants))

        threads = [threading.Thread(target=wait_and_call, args=(n,)) for n in range(WAITERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    attempts, grants = (sum(column) for column in zip(*counts, strict=True))
    # Those whose turn had not come when the time was up have asked in vain.
    return {
        "attempts_per_grant": round((attempts - WAITERS) / grants, 2),
        "granted_of_possible": round(grants / (PER_SECOND * SECONDS + PER_SECOND), 3),
        "settings": {"waiters": WAITERS, "per_second": PER_SECOND, "seconds": SECONDS},
    }
