"""A process of `chaos.money`: threads that work on agent runs as a worker's do, without a broker.

It ends and settles calls twice now and then, with other figures the second time, which must change
nothing. Arguments: its name, how many threads, a seed.
"""

from __future__ import annotations

import queue
import random
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

import django

_QUEUED: Final = """
SELECT tenant_id, id FROM agent_run WHERE status = 'queued' ORDER BY random() LIMIT %s
"""
_LOOK_SECONDS: Final = 0.05
_TWICE: Final = 0.3
DOUBLED: Final = "told twice"


def main(name: str, threads: int, seed: str) -> None:
    django.setup()
    # Only now, since their modules read the settings.
    from orchestrator.execution import engine_db, presence
    from orchestrator.services import agent_runs

    _double(random.Random(seed))
    found: queue.SimpleQueue[tuple[UUID, UUID]] = queue.SimpleQueue()

    def work() -> None:
        while True:
            tenant_id, agent_run_id = found.get()
            agent_runs.execute(tenant_id, agent_run_id, worker=name)

    for _ in range(threads):
        threading.Thread(target=work, daemon=True).start()
    here_again = 0.0
    while True:
        if time.monotonic() > here_again:
            presence.here(name, slots=threads)
            here_again = time.monotonic() + presence.SECONDS
        if found.empty():
            for row in engine_db.many(_QUEUED, threads, alias="system"):
                found.put((row["tenant_id"], row["id"]))
        time.sleep(_LOOK_SECONDS)


def _double(dice: random.Random) -> None:
    """Have the gateway tell database and limiter some endings twice."""
    from orchestrator.execution import gateway
    from orchestrator.execution.call_rows import end_call
    from orchestrator.limits import Limits

    def twice(tell: Callable[..., None], other: Callable[..., Any]) -> Callable[..., None]:
        def telling(*given: Any, **named: Any) -> None:
            tell(*given, **named)
            if dice.random() < _TWICE:
                other(tell, *given, **named)
                print(DOUBLED, file=sys.stderr, flush=True)

        return telling

    def cheaper(end: Callable[..., None], *given: Any, charge: int, **named: Any) -> None:
        end(*given, charge=charge // 2, **named)

    def nothing(settle: Callable[..., None], limits: Limits, call_id: UUID, used: Any) -> None:
        settle(limits, call_id, dict.fromkeys(used, 0))

    vars(gateway)["end_call"] = twice(end_call, cheaper)
    Limits.settle = twice(Limits.settle, nothing)  # type: ignore[method-assign]


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
