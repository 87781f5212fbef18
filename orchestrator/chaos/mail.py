"""What may happen to a message on its way: it is lost, or comes twice, or once more much later."""

from __future__ import annotations

from typing import Any, Final
from uuid import uuid4

import redis

from orchestrator.core.hints import AgentHint, RunHints
from orchestrator.dispatch.canvas import publish

QUEUES: Final = ("control", "agents.high", "agents", "agents.low", "tools.cpu")
_LATE_MESSAGES: Final = 50
_PATIENCE_SECONDS: Final = 3


def send_stray() -> None:
    """Messages about what is not there, or no more."""
    agent = AgentHint(agent_run_id=uuid4(), priority=5)
    publish([RunHints(tenant_id=uuid4(), run_id=uuid4(), agents=[agent], advance=True)])


class Mail:
    """Takes messages out of the queues as one more consumer would."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._seen: list[tuple[Any, Any]] = []
        self.dropped = 0
        self.doubled = 0

    def drop(self) -> None:
        self.dropped += self._take() is not None

    def double(self) -> None:
        """The message that comes next goes on twice, and one seen long ago comes again."""
        taken = self._take()
        if taken is None:
            return
        queue, message = taken
        # Workers take from the right.
        self._client.rpush(queue, message, message)
        if self._seen:
            self._client.lpush(*self._seen[len(self._seen) // 2])
        self._seen = [*self._seen, taken][-_LATE_MESSAGES:]
        self.doubled += 1

    def _take(self) -> tuple[Any, Any] | None:
        taken = self._client.brpop(list(QUEUES), timeout=_PATIENCE_SECONDS)
        return (taken[0], taken[1]) if taken else None
