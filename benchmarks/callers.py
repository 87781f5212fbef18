"""A process of `benchmarks.hold`: a thread for each agent run, which calls its model all the time.

Arguments: for how many seconds, facts of the run as JSON, ids of agent runs that are at work.
"""

import json
import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from uuid import UUID

import django

from agents_app.core.model import Message, ModelRequest

if TYPE_CHECKING:
    from orchestrator.execution.gateway import GuardedClient

_REQUEST = ModelRequest(
    provider="simulated",
    model="sim",
    messages=(Message("user", "Say something short about tides."),),
    parameters={"seed": 7},
)


def main() -> None:
    django.setup()
    # Only now, since their modules read the settings.
    from orchestrator.execution import engine_db
    from orchestrator.execution.claims import Claim
    from orchestrator.execution.gateway import GuardedClient
    from orchestrator.execution.leases import Lease

    seconds, facts = float(sys.argv[1]), json.loads(sys.argv[2])
    ids = [UUID(id) for id in sys.argv[3:]]
    of_run: Any = {name: UUID(id) for name, id in facts.items()}

    def client_of(id: UUID) -> GuardedClient:
        claim = Claim(
            **of_run,
            agent_run_id=id,
            step="s",
            attempt=1,
            failures=0,
            input={},
            outputs={},
            replies={},
            environment_credentials=False,
            cap_runs=(),
            agent="prompt",
            tenant_weight=1,
            waited=0.0,
            forgiven=0,
        )
        return GuardedClient(claim, Lease(id, 1), role="executor")

    def call_all_the_time(id: UUID) -> list[float]:
        client = client_of(id)
        _begin(client)
        took = []
        while (began := time.perf_counter()) < until:
            client.complete(_REQUEST)
            took.append(time.perf_counter() - began)
        return took

    with ThreadPoolExecutor(len(ids)) as threads:
        began, cpu = time.perf_counter(), _cpu()
        until = began + seconds
        took = [one for of_thread in threads.map(call_all_the_time, ids) for one in of_thread]
    told = {"took": took, "seconds": time.perf_counter() - began, "cpu": _cpu() - cpu}
    print(json.dumps(told))
    engine_db.close_pools()


def _begin(client: "GuardedClient") -> None:
    """Once before the clock runs: prices are read, and the limiter learns what is under way."""
    from orchestrator.execution.errors import MustWaitError

    while True:
        try:
            client.complete(_REQUEST)
        except MustWaitError as wait:
            time.sleep(wait.seconds)
        else:
            return


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
