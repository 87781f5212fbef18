"""Tells those who wait for something in a run that it may have come, through Redis streams.

A ring is a hint that says for whom, never what: that is read from the database, which whoever waits
also looks at by itself from time to time. One thread and one connection of a process listen for all
its waiters.
"""

import os
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final
from uuid import UUID, uuid4
from weakref import WeakSet

import redis
import structlog
from django.conf import settings

log = structlog.get_logger(__name__)

# How often whoever waits looks by itself, since rings may be lost; and how long one may wait.
LOOK_SECONDS: Final = 1.0
MAX_WAIT_SECONDS: Final = 50.0
# Whom a ring is for: some agent runs, or all in the run.
ALL: Final = "*"
_STREAM: Final = "muster:bus:"
_WAKE: Final = "muster:bus-wake:"
_FOR: Final = b"for"
_KEPT: Final = 1_000
_KEPT_SECONDS: Final = 3_600
# How long a run is at least listened to, whether somebody waits in it or not.
_LINGER_SECONDS: Final = 30.0
_BLOCK_MS: Final = 5_000
_PATIENCE_SECONDS: Final = 1.0
_BEGINNING: Final = b"0-0"


@dataclass(slots=True, eq=False, weakref_slot=True)
class Waiter:
    """Hears the rings for an agent run for as long as somebody holds it."""

    agent_run_id: UUID
    rung: threading.Event = field(default_factory=threading.Event)


class Doorbell:
    """Never raises for want of Redis: nobody is told then, and whoever waits looks by itself."""

    def __init__(self, url: str) -> None:
        patience = {
            "socket_timeout": _PATIENCE_SECONDS,
            "socket_connect_timeout": _PATIENCE_SECONDS,
        }
        self._client = redis.Redis.from_url(url, **patience)
        self._listening = redis.Redis.from_url(
            url, socket_timeout=_BLOCK_MS / 1000 + _PATIENCE_SECONDS
        )
        self._wake = f"{_WAKE}{uuid4().hex}"
        self._guard = threading.Lock()
        self._waiters: dict[UUID, WeakSet[Waiter]] = {}
        # How far the streams of runs were read, and when somebody last waited in them.
        self._heard: dict[UUID, bytes] = {}
        self._used: dict[UUID, float] = {}
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._away_until = 0.0
        self._is_away = False

    def ring(self, rings: Mapping[UUID, Iterable[UUID | str]]) -> None:
        """Wake those who wait: by run, the agent runs it is for, or ALL. Call after the commit."""
        if time.monotonic() < self._away_until:
            return
        pipeline = self._client.pipeline(transaction=False)
        for run_id, whom in rings.items():
            key = f"{_STREAM}{run_id}"
            told = ",".join(dict.fromkeys(map(str, whom)))
            pipeline.xadd(key, {_FOR: told}, maxlen=_KEPT, approximate=True)
            pipeline.expire(key, _KEPT_SECONDS)
        try:
            pipeline.execute()
        except (redis.RedisError, OSError) as error:
            self._note_absence(error)

    def stop(self) -> None:
        """Listen no more."""
        self._stopped.set()
        self._call_thread()

    def waiter(self, run_id: UUID, agent_run_id: UUID) -> Waiter:
        """Hears rings from now on: look at the database after this, then wait."""
        waiter = Waiter(agent_run_id)
        with self._guard:
            is_new = run_id not in self._heard
        position = self._last_of(run_id) if is_new else _BEGINNING
        with self._guard:
            self._waiters.setdefault(run_id, WeakSet()).add(waiter)
            self._used[run_id] = time.monotonic()
            is_new = self._heard.setdefault(run_id, position) is position and is_new
            self._start()
        if is_new:
            self._call_thread()
        return waiter

    def _last_of(self, run_id: UUID) -> bytes:
        try:
            last: Any = self._client.xrevrange(f"{_STREAM}{run_id}", count=1)
        except (redis.RedisError, OSError) as error:
            self._note_absence(error)
            return _BEGINNING
        return bytes(last[0][0]) if last else _BEGINNING

    def _call_thread(self) -> None:
        """Have the thread look at what it is to listen to."""
        try:
            pipeline = self._client.pipeline(transaction=False)
            pipeline.xadd(self._wake, {_FOR: ""}, maxlen=1, approximate=False)
            pipeline.expire(self._wake, _KEPT_SECONDS)
            pipeline.execute()
        except (redis.RedisError, OSError) as error:
            self._note_absence(error)

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._listen, name="doorbell", daemon=True)
            self._thread.start()

    def _listen(self) -> None:
        woken = b"0-0"
        while not self._stopped.is_set():
            with self._guard:
                self._forget_idle()
                streams: dict[Any, Any] = {
                    f"{_STREAM}{run_id}": last for run_id, last in self._heard.items()
                }
            streams[self._wake] = woken
            try:
                answer: Any = self._listening.xread(streams, block=_BLOCK_MS)
            except (redis.RedisError, OSError) as error:
                self._note_absence(error)
                self._begin_anew()
                self._stopped.wait(_PATIENCE_SECONDS)
                continue
            self._is_away = False
            for key, entries in answer or ():
                if key == self._wake.encode():
                    woken = entries[-1][0]
                else:
                    self._heard_of(UUID(key.decode().removeprefix(_STREAM)), entries)

    def _heard_of(self, run_id: UUID, entries: Any) -> None:
        whom = {one for _, fields in entries for one in fields[_FOR].decode().split(",")}
        with self._guard:
            if run_id in self._heard:
                self._heard[run_id] = entries[-1][0]
            waiters = tuple(self._waiters.get(run_id, ()))
        for waiter in waiters:
            if ALL in whom or str(waiter.agent_run_id) in whom:
                waiter.rung.set()

    def _forget_idle(self) -> None:
        idle = time.monotonic() - _LINGER_SECONDS
        for run_id in [run for run in self._heard if not self._waiters.get(run)]:
            if self._used[run_id] < idle:
                del self._heard[run_id], self._used[run_id]
                self._waiters.pop(run_id, None)

    def _begin_anew(self) -> None:
        """Another server, or the same one emptied, may number its entries otherwise."""
        with self._guard:
            self._heard = dict.fromkeys(self._heard, _BEGINNING)

    def _note_absence(self, error: Exception) -> None:
        if not self._is_away:
            log.warning("doorbell_away", error=type(error).__name__)
        self._is_away = True
        self._away_until = time.monotonic() + _PATIENCE_SECONDS


@cache
def doorbell() -> Doorbell:
    """This process's."""
    return Doorbell(settings.REDIS_URL)


# A fork must not share its parent's connections, threads and locks.
os.register_at_fork(after_in_child=doorbell.cache_clear)
