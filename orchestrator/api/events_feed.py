"""News of runs for all the streams of a process: one subscriber, one reader, shared answers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from uuid import UUID

import redis.asyncio as redis
import structlog
from django.db import connection

from orchestrator.api.events import Portion, portion
from orchestrator.api.events_text import RunTexts
from orchestrator.core.speech import said_from_bytes
from orchestrator.dispatch.live import NEWS, channel_of, run_of
from orchestrator.selectors.events import Horizon, News, Place, horizon, news

T = TypeVar("T")
_END: Final = Portion(body=b"", next=None)
log = structlog.get_logger(__name__)

# Without nudges, as while Redis is away, streams are late by as much.
POLL_SECONDS: Final = 2.0
# Between two reads: what happens within is read at once.
_PAUSE_SECONDS = 0.05
_AWAY_SECONDS = 1.0
# At once, so that many who catch up on long histories do not fill the memory.
_MOST_PLACES = 50
# Keeps the connection subscribed while nobody listens.
_IDLE_CHANNEL = "muster:live"


@dataclass(slots=True)
class _Wait:
    """All who have come to the same place get the same answer."""

    answer: asyncio.Future[Portion]
    is_due: bool = True
    listeners: int = 0


def _read_horizon() -> Horizon:
    try:
        return horizon()
    finally:
        connection.close()


def _read_portions(places: Collection[Place]) -> tuple[Horizon, Mapping[Place, Portion]]:
    try:
        now = horizon()
        found = news(places, until=now.id)
        portions = {at: _told(at, new) for at, new in found if new.events or new.is_last}
        return now, portions
    finally:
        connection.close()


def _told(place: Place, found: News) -> Portion:
    try:
        return portion(place, found)
    except Exception:
        # One run's broken row must not silence all others; its own streams end.
        log.exception("events_not_told", run_id=str(place.run_id), after=place.after)
        return _END


class Feed:
    """Hands every listener what follows its place, when there is something.

    A listener takes one portion at a time and comes back for the next. So a slow one holds
    nothing but the portion it is being sent, and those who stand at the same place share theirs.
    """

    def __init__(self, redis_url: str) -> None:
        self._url = redis_url
        self._waits: dict[Place, _Wait] = {}
        self._runs: dict[UUID, RunTexts] = {}
        self._wake = asyncio.Event()
        self._seen: Horizon | None = None
        self._poll_at = 0.0
        self._has_ended = False
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="events")
        self._subscriber: redis.client.PubSub | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._read_for_ever())]
        if self._url:
            self._tasks.append(asyncio.create_task(self._subscribe_for_ever()))

    def end(self) -> None:
        """End all streams; their readers ask another process, or this one's successor."""
        self._has_ended = True
        for wait in self._waits.values():
            wait.answer.set_result(_END)
        self._waits.clear()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._reader.shutdown(wait=False)

    @contextlib.asynccontextmanager
    async def listening(self, run_id: UUID) -> AsyncIterator[RunTexts]:
        """Hear of the run's nudges meanwhile, and what its models write."""
        texts = self._runs.setdefault(run_id, RunTexts(run_id))
        texts.listeners += 1
        try:
            if texts.listeners == 1:
                await self._tell_redis("subscribe", run_id)
            yield texts
        finally:
            texts.listeners -= 1
            if not texts.listeners:
                del self._runs[run_id]
                await self._tell_redis("unsubscribe", run_id)

    async def portion(self, place: Place, *, within: float) -> Portion | None:
        """What follows the place, as soon as there is something; None if nothing comes in time."""
        if self._has_ended:
            return _END
        wait = self._waits.get(place)
        if wait is None:
            wait = self._waits[place] = _Wait(asyncio.get_running_loop().create_future())
            self._wake.set()
        wait.listeners += 1
        try:
            await asyncio.wait([wait.answer], timeout=within)
            return wait.answer.result() if wait.answer.done() else None
        finally:
            wait.listeners -= 1
            if not wait.listeners and self._waits.get(place) is wait:
                del self._waits[place]

    def _make_due(self, run_id: UUID | None = None) -> None:
        """Look behind the places in this run, or in all."""
        for place, wait in self._waits.items():
            wait.is_due |= run_id is None or place.run_id == run_id
        self._wake.set()

    async def _read_for_ever(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), POLL_SECONDS)
            self._wake.clear()
            try:
                await self._read()
            except Exception as error:
                log.warning("events_not_read", error=type(error).__name__, detail=str(error))
                self._make_due()
                await asyncio.sleep(_AWAY_SECONDS)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _read(self) -> None:
        if self._waits and asyncio.get_running_loop().time() >= self._poll_at:
            await self._poll()
        due = [place for place, wait in self._waits.items() if wait.is_due]
        asked = due[:_MOST_PLACES]
        if not asked:
            return
        # Before reading: a nudge from here on makes it due anew.
        for place in asked:
            self._waits[place].is_due = False
        now, portions = await self._in_thread(_read_portions, asked)
        for place, answer in portions.items():
            if wait := self._waits.pop(place, None):
                wait.answer.set_result(answer)
        if not now.is_far:
            self._make_due()
        elif len(due) > len(asked):
            self._wake.set()

    async def _poll(self) -> None:
        """Whatever was not heard of: look everywhere, if anything was written anywhere."""
        now = await self._in_thread(_read_horizon)
        if now != self._seen or not now.is_far:
            self._make_due()
        self._seen = now
        self._poll_at = asyncio.get_running_loop().time() + POLL_SECONDS

    async def _in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reader, work, *arguments)

    async def _subscribe_for_ever(self) -> None:
        client = redis.Redis.from_url(
            self._url, socket_connect_timeout=_AWAY_SECONDS, socket_keepalive=True
        )
        is_away = False
        async with client:
            while True:
                try:
                    async with client.pubsub() as subscriber:
                        await subscriber.subscribe(_IDLE_CHANNEL, *map(channel_of, self._runs))
                        self._subscriber, is_away = subscriber, False
                        await self._hear(subscriber)
                except (redis.RedisError, OSError) as error:
                    if not is_away:
                        log.warning("nudges_not_heard", error=type(error).__name__)
                    is_away = True
                finally:
                    self._subscriber = None
                await asyncio.sleep(_AWAY_SECONDS)

    async def _hear(self, subscriber: redis.client.PubSub) -> None:
        async for message in subscriber.listen():
            if message["channel"] == _IDLE_CHANNEL.encode():
                continue
            # What was said before the subscription was in force is read without having been heard.
            if message["type"] == "subscribe" or message["data"] == NEWS:
                self._make_due(run_of(message["channel"]))
            elif message["type"] == "message":
                self._take_text(run_of(message["channel"]), message["data"])

    def _take_text(self, run_id: UUID, message: bytes) -> None:
        texts, said = self._runs.get(run_id), said_from_bytes(message)
        if texts and said:
            texts.take(said)

    async def _tell_redis(self, what: str, run_id: UUID) -> None:
        if self._subscriber is None:
            return
        # However a connection breaks meanwhile: a new one subscribes to all runs, and until then
        # polling finds what is new.
        with contextlib.suppress(Exception):
            await getattr(self._subscriber, what)(channel_of(run_id))
