"""What may happen to a message on its way: it is lost, or comes twice, or once more much later."""

from __future__ import annotations

from typing import Any, Final

import redis

QUEUES: Final = ("control", "agents.high", "agents", "agents.low")
_LATE_MESSAGES: Final = 50
_PATIENCE_SECONDS: Final = 3


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
