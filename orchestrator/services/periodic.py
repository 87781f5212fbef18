"""Work that a process repeats for as long as it lives."""

import threading
from collections.abc import Callable
from typing import Final

import structlog
from psycopg import OperationalError
from psycopg_pool import PoolTimeout

log = structlog.get_logger(__name__)

_AWAY: Final = (OperationalError, PoolTimeout)


class Periodic:
    """Calls `work` now and every `seconds`, in a thread that outlives whatever goes wrong."""

    def __init__(self, work: Callable[[], object], *, name: str, seconds: float) -> None:
        self._work = work
        self._name = name
        self._seconds = seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def _repeat(self) -> None:
        while not self._stop.is_set():
            self._once()
            self._stop.wait(self._seconds)

    def _once(self) -> None:
        try:
            self._work()
        except _AWAY as error:
            log.warning("periodic_work_failed", work=self._name, error=type(error).__name__)
        except Exception:
            # The last net below everything else: it must outlive what it did not foresee.
            log.exception("periodic_work_failed", work=self._name)
