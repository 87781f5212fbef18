"""Follows a run for one listener, after Django has let the listener in."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from orchestrator.api.events import FOLLOW, place_from
from orchestrator.api.events_feed import Feed
from orchestrator.api.events_text import RunTexts
from orchestrator.selectors.events import Place

Message = dict[str, Any]
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HEARTBEAT_SECONDS = 15.0
# A stream outlives a revoked key, a closed session or a deleted run by as much at most, and the
# silence until the next line.
RECHECK_SECONDS = 60.0
# However fast models write, a listener is told some times a second.
_TEXT_PAUSE_SECONDS = 0.05
_HEARTBEAT = b": still here\n\n"
_FOLLOW = FOLLOW.lower().encode()
_LAST_ID = b"last-event-id"


@dataclass(slots=True)
class _Opening:
    """Passes an answer on, but leaves one open that names a place to follow the run from."""

    send: Send
    place: Place | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            message = self._without_place(message)
        elif self.place:
            message = {**message, "more_body": True}
        await self.send(message)

    def _without_place(self, message: Message) -> Message:
        self.place = _place_in(message)
        if self.place is None:
            return message
        kept = [pair for pair in message["headers"] if pair[0] not in (_FOLLOW, b"content-length")]
        return {**message, "headers": kept}


@dataclass(slots=True)
class _Recheck:
    """Takes in the answer to the same request asked again."""

    is_let_in: bool = False
    place: Place | None = None
    body: bytes = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.is_let_in = message["status"] == 200
            self.place = _place_in(message)
        else:
            self.body += message.get("body", b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class EventStreams:
    """The site, whose answers go on as streams where they say so."""

    site: App
    feed: Feed
    heartbeat_seconds: float = HEARTBEAT_SECONDS
    recheck_seconds: float = RECHECK_SECONDS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        opening = _Opening(send)
        await self.site(scope, receive, opening)
        if opening.place:
            await _until_gone(self._follow(opening.place, scope, send), receive)

    async def _follow(self, start: Place, scope: Scope, send: Send) -> None:
        place: Place | None = start
        clock = asyncio.get_running_loop().time
        recheck_at = clock() + self._until_recheck()
        async with self.feed.listening(start.run_id) as texts, asyncio.TaskGroup() as group:
            telling = group.create_task(_tell(texts, send))
            while place:
                portion = await self.feed.portion(place, within=self.heartbeat_seconds)
                body, place = (portion.body, portion.next) if portion else (_HEARTBEAT, place)
                await send(part(body))
                if place and clock() >= recheck_at:
                    place = await self._again(place, scope, send)
                    recheck_at = clock() + self._until_recheck()
            telling.cancel()
        await send(part(b"", more=False))

    def _until_recheck(self) -> float:
        # Spread, so that many who came at once do not ask again at once.
        return self.recheck_seconds * random.uniform(0.5, 1.0)  # noqa: S311

    async def _again(self, place: Place, scope: Scope, send: Send) -> Place | None:
        """Where to go on from, if the same request would be let in now."""
        answer = _Recheck()
        await self.site(_from_place(scope, place), _no_body, answer)
        if answer.is_let_in:
            await send(part(answer.body))
        return answer.place


async def _tell(texts: RunTexts, send: Send) -> None:
    """Tell the listener what models write, between the rows, until cancelled."""
    heard: dict[str, int] = {}
    while True:
        # First, so that what comes meanwhile is awaited no more.
        more = texts.news
        if said := texts.lines_for(heard):
            await send(part(said))
            await asyncio.sleep(_TEXT_PAUSE_SECONDS)
        await asyncio.wait([more])


async def _until_gone(following: Coroutine[Any, Any, None], receive: Receive) -> None:
    """Follow until the run ends or the listener goes."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(following), group.create_task(_gone(receive))]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _no_body() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


def _from_place(scope: Scope, place: Place) -> Scope:
    """The request as the listener would repeat it now."""
    headers = [pair for pair in scope["headers"] if pair[0] != _LAST_ID]
    return {**scope, "headers": [*headers, (_LAST_ID, str(place.after).encode())]}


def _place_in(start: Message) -> Place | None:
    text = dict(start["headers"]).get(_FOLLOW)
    return place_from(text.decode()) if text else None


def part(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}
