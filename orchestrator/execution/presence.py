"""Tells the cluster that this worker process is there, what it can do at a time and has done."""

import threading
from typing import Final

from orchestrator.execution import engine_db

SECONDS: Final = 5.0
COUNTS_SECONDS: Final = 15

_HERE = "SELECT muster_here(%s, %s, %s::bigint)"


class _Tally:
    """Messages that were handled and not told of yet."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._count = 0

    def add(self, count: int) -> None:
        with self._guard:
            self._count += count

    def taken(self) -> int:
        with self._guard:
            count, self._count = self._count, 0
        return count


_handled = _Tally()


def count_message() -> None:
    """One more message that this process has handled, whatever came of it."""
    _handled.add(1)


def here(worker: str, *, slots: int) -> None:
    """Counts for `COUNTS_SECONDS`."""
    handled = _handled.taken()
    try:
        engine_db.one(_HERE, worker, slots, handled)
    except Exception:
        # Told the next time.
        _handled.add(handled)
        raise
