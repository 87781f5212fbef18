"""Tells whoever watches a run that it has news. A nudge is a hint: listeners read the rows."""

import atexit
import os
import threading
from typing import Final
from uuid import UUID

import redis
import structlog
from django.conf import settings

log = structlog.get_logger(__name__)

# What is said on a run's channel when rows were written. Whatever else is said there, such as
# what models write, concerns nobody who only waits for rows.
NEWS: Final = b"news"
_CHANNEL = "muster:run:"
CHANNELS: Final = f"{_CHANNEL}*"
# At most so often to Redis, however many nudges come; the first of a burst goes at once.
_PAUSE_SECONDS = 0.05
_AWAY_SECONDS = 1.0
_PATIENCE_SECONDS = 1.0


def channel_of(run_id: UUID) -> str:
    return f"{_CHANNEL}{run_id}"


def run_of(channel: bytes) -> UUID:
    return UUID(channel.decode().removeprefix(_CHANNEL))


def nudge(run_id: UUID) -> None:
    """Say that the run has new events; call it after the commit.

    Costs an entry in a set. A thread of its own publishes, so an absent Redis holds up nobody;
    listeners who were not told look by themselves every other second.
    """
    _nudger.nudge(run_id)


class Nudger:
    """Gathers nudges and publishes each run once, in one pipeline."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._due: set[UUID] = set()
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_away = False

    def nudge(self, run_id: UUID) -> None:
        self._due.add(run_id)
        if not self._wake.is_set():
            self._wake.set()
        if self._thread is None:
            self._start()

    def stop(self) -> None:
        """Send what is due and end."""
        self._stopped.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(3 * _PATIENCE_SECONDS)

    def _start(self) -> None:
        with self._starting:
            if self._thread is None and self._url and not self._stopped.is_set():
                self._thread = threading.Thread(target=self._run, name="nudges", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        client = redis.Redis.from_url(
            self._url, socket_timeout=_PATIENCE_SECONDS, socket_connect_timeout=_PATIENCE_SECONDS
        )
        while not self._stopped.is_set():
            self._wake.wait()
            # Before taking: whoever adds now wakes this thread once more.
            self._wake.clear()
            self._publish(client)
            self._stopped.wait(_AWAY_SECONDS if self._is_away else _PAUSE_SECONDS)
        self._publish(client)
        client.close()

    def _publish(self, client: redis.Redis) -> None:
        pipeline = client.pipeline(transaction=False)
        # Taken one by one out of the set that others add to; a swap could lose one.
        while self._due:
            pipeline.publish(channel_of(self._due.pop()), NEWS)
        try:
            pipeline.execute()
        except (redis.RedisError, OSError) as error:
            self._note_absence(error)
        else:
            self._is_away = False

    def _note_absence(self, error: Exception) -> None:
        if not self._is_away:
            log.warning("nudges_not_sent", error=type(error).__name__)
        self._is_away = True


def _renew() -> None:
    # A fork inherits neither the thread nor, for certain, an unheld lock.
    global _nudger
    _nudger = Nudger(settings.REDIS_URL)


_nudger = Nudger(settings.REDIS_URL)
os.register_at_fork(after_in_child=_renew)
atexit.register(lambda: _nudger.stop())
