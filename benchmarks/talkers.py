"""A process of `benchmarks.bus`: threads that send or read messages, one for each agent run.

Arguments: `bus`, or `stream` for plain Redis streams; `send` or `read`; facts of the run as JSON;
and ids of agent runs, for senders with the step that they send to. `ready` on standard output says
that it waits for a line on standard input: how many messages each sender sends a second (0: as many
as it can), and for how many seconds. Readers end after two seconds without a message. Both say then
what came of it.
"""

import json
import resource
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol
from uuid import UUID, uuid4

import django
import redis

from agents_app.core.bus import Outgoing, Wanted

_CONTENT: dict[str, Any] = {
    "note": "The tide turns at a quarter past four, so be there before.",
    "lines": [1, 2],
}
_QUIET_SECONDS = 2.0
_MOST = 100


class Channel(Protocol):
    def send(self, content: dict[str, Any]) -> None: ...

    def read(self, wait_seconds: float) -> Sequence[dict[str, Any]]: ...


def main() -> None:
    django.setup()
    kind, what, facts, ids = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), sys.argv[4:]
    channel_of = _bus if kind == "bus" else _stream
    channels = [channel_of(facts, *pair.partition("=")[::2]) for pair in ids]
    print("ready", flush=True)
    rate, seconds = map(float, sys.stdin.readline().split())

    def work(channel: Channel) -> list[float]:
        return _send(channel, rate, seconds) if what == "send" else _read(channel)

    with ThreadPoolExecutor(len(ids)) as threads:
        began, cpu = time.perf_counter(), _cpu()
        took = [one for of_thread in threads.map(work, channels) for one in of_thread]
        told = {"took": took, "seconds": time.perf_counter() - began, "cpu": _cpu() - cpu}
    print(json.dumps(told))
    if kind == "bus":
        from orchestrator.execution import engine_db

        engine_db.close_pools()


def _send(channel: Channel, rate: float, seconds: float) -> list[float]:
    """How long each took until its sender could go on."""
    took: list[float] = []
    began = due = time.perf_counter()
    while due < began + seconds:
        if rate:
            time.sleep(max(0.0, due - time.perf_counter()))
        at = time.perf_counter()
        channel.send({**_CONTENT, "at": at})
        done = time.perf_counter()
        took.append(done - at)
        due = due + 1 / rate if rate else done
    return took


def _read(channel: Channel) -> list[float]:
    """How long after it began to be sent each was there."""
    took: list[float] = []
    while True:
        found = channel.read(_QUIET_SECONDS if took else 30.0)
        now = time.perf_counter()
        took += [now - content["at"] for content in found]
        if not found:
            return took


def _bus(facts: dict[str, str], id: str, to: str) -> Channel:
    """The bus of an agent run, as its worker has it."""
    from orchestrator.execution.claims import Claim
    from orchestrator.execution.leases import Lease
    from orchestrator.execution.messages import Messages

    of_run: Any = {name: UUID(fact) for name, fact in facts.items()}
    claim = Claim(
        **of_run,
        agent_run_id=UUID(id),
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
    messages = Messages(claim, Lease(UUID(id), 1))

    class Bus:
        def send(self, content: dict[str, Any]) -> None:
            messages.send(Outgoing(content=content, to=to), call_id=uuid4())

        def read(self, wait_seconds: float) -> Sequence[dict[str, Any]]:
            wanted = Wanted(most=_MOST, wait_seconds=wait_seconds)
            found: list[Any] = [each.content for each in messages.read(wanted, call_id=uuid4())]
            return found

    return Bus()


def _stream(_facts: dict[str, str], id: str, to: str) -> Channel:
    """A stream for each reader, with nothing kept of it but by Redis."""
    from django.conf import settings

    client = redis.Redis.from_url(settings.REDIS_URL)

    class Stream:
        last: Any = "0-0"

        def send(self, content: dict[str, Any]) -> None:
            client.xadd(f"bench:{to}", {"content": json.dumps(content)})

        def read(self, wait_seconds: float) -> Sequence[dict[str, Any]]:
            block = round(1000 * wait_seconds)
            answer: Any = client.xread({f"bench:{id}": self.last}, count=_MOST, block=block)
            entries = answer[0][1] if answer else []
            for self.last, _ in entries[-1:]:
                pass
            return [json.loads(fields[b"content"]) for _, fields in entries]

    return Stream()


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
