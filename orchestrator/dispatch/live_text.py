"""Brings what models write, while they write it, to those who follow their runs.

Text goes through Redis alone, on the channel of its run, and is kept nowhere: an answer that
nobody follows costs a list of its pieces.
"""

import atexit
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from uuid import UUID

import redis
import structlog
from django.conf import settings

from orchestrator.core.speech import MOST_KEPT, Said, said_from_bytes, said_to_bytes
from orchestrator.dispatch.live import CHANNELS, channel_of, run_of

log = structlog.get_logger(__name__)

# How often the pieces of a text are told.
_PAUSE_SECONDS = 0.08
# How often it is asked which runs are followed, while models write.
_LOOK_SECONDS = 0.4
_MOST_CHARACTERS = 8_192  # in one message
_AWAY_SECONDS = 2.0
_PATIENCE_SECONDS = 1.0


class _Speech:
    """The text of one call so far, and how much of it was told to how many."""

    def __init__(self, run_id: UUID, about: Said) -> None:
        self.run_id = run_id
        self.is_over = False
        self.is_told = False
        self._about = about
        self._pieces: list[str] = []
        self._told = 0
        self._listeners = 0

    def say(self, piece: str) -> None:
        self._pieces.append(piece)

    def next(self) -> Said | None:
        """What is to be told now, if anything."""
        text = self._text()
        self._told = max(self._told, len(text) - MOST_KEPT)
        piece = text[self._told : self._told + _MOST_CHARACTERS]
        is_last = self.is_over and self._told + len(piece) == len(text)
        if not piece and not is_last:
            return None
        self.is_told = is_last
        said = replace(self._about, offset=self._told, text=piece, is_last=is_last)
        self._told += len(piece)
        return said

    def note(self, listeners: int) -> None:
        """Whoever has come since the last piece has not heard those before."""
        has_more = bool(self._listeners) and listeners > self._listeners
        if (has_more or not listeners) and not self.is_told:
            self._told = 0
        self._listeners = listeners

    def _text(self) -> str:
        # Only the end of the list is written to meanwhile.
        known = len(self._pieces)
        text = "".join(self._pieces[:known])
        self._pieces[:known] = [text]
        return text


class Speeches:
    """The calls of this process whose text somebody may follow.

    `most` of them are streamed although nobody follows their run yet, since somebody may come;
    those of runs that are followed always are. A thread of its own tells, so neither an absent
    Redis nor slow listeners hold up a call.
    """

    def __init__(self, url: str, *, most: int) -> None:
        self._url = url
        self._most = most
        self._speeches: dict[UUID, _Speech] = {}
        self._under_way = 0
        self._followed: frozenset[UUID] = frozenset()
        self._guard = threading.Lock()
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_away = False

    @contextmanager
    def speaking(
        self, run_id: UUID, call_id: UUID, about: Said
    ) -> Iterator[Callable[[str], None] | None]:
        """Takes the text of a call meanwhile, piece by piece; None: it need not be streamed."""
        speech = self._begin(run_id, call_id, about)
        try:
            yield speech.say if speech else None
        finally:
            self._end(speech, call_id)

    def stop(self) -> None:
        self._stopped.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(3 * _PATIENCE_SECONDS)

    def _begin(self, run_id: UUID, call_id: UUID, about: Said) -> _Speech | None:
        if not self._url or self._stopped.is_set():
            return None
        with self._guard:
            self._under_way += 1
            self._start()
            is_followed = run_id in self._followed
            if not is_followed and len(self._speeches) >= self._most:
                return None
            speech = self._speeches[call_id] = _Speech(run_id, about)
            return speech

    def _end(self, speech: _Speech | None, call_id: UUID) -> None:
        with self._guard:
            self._under_way = max(0, self._under_way - 1)
            if speech is None:
                return
            speech.is_over = True
            # Where somebody follows, the end is told first.
            if speech.run_id not in self._followed:
                self._speeches.pop(call_id, None)

    def _start(self) -> None:
        self._wake.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="live text", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        client = redis.Redis.from_url(
            self._url, socket_timeout=_PATIENCE_SECONDS, socket_connect_timeout=_PATIENCE_SECONDS
        )
        look_at = 0.0
        while self._wake.wait() and not self._stopped.is_set():
            try:
                if time.monotonic() >= look_at:
                    self._look(client)
                    look_at = time.monotonic() + _LOOK_SECONDS
                self._tell(client)
                self._is_away = False
            except (redis.RedisError, OSError) as error:
                self._note_absence(error)
            except Exception:
                # Without this thread no text would be told any more.
                log.exception("text_not_told")
            self._stopped.wait(_AWAY_SECONDS if self._is_away else _PAUSE_SECONDS)
            self._rest()
        client.close()

    def _rest(self) -> None:
        with self._guard:
            if not self._under_way and not self._speeches:
                self._wake.clear()

    def _look(self, client: redis.Redis) -> None:
        found: list[bytes] = client.pubsub_channels(CHANNELS)  # type: ignore[assignment]
        followed = frozenset(run_of(channel) for channel in found)
        with self._guard:
            self._followed = followed
            self._drop(lambda speech: speech.is_over and speech.run_id not in followed)

    def _tell(self, client: redis.Redis) -> None:
        with self._guard:
            due = [each for each in self._speeches.values() if each.run_id in self._followed]
        said = [(speech, piece) for speech in due if (piece := speech.next())]
        if said:
            pipeline = client.pipeline(transaction=False)
            for speech, piece in said:
                pipeline.publish(channel_of(speech.run_id), said_to_bytes(piece))
            for (speech, _), listeners in zip(said, pipeline.execute(), strict=True):
                speech.note(listeners)
        with self._guard:
            self._drop(lambda speech: speech.is_told)

    def _drop(self, is_due: Callable[[_Speech], bool]) -> None:
        for call_id in [each for each, speech in self._speeches.items() if is_due(speech)]:
            del self._speeches[call_id]

    def _note_absence(self, error: Exception) -> None:
        if not self._is_away:
            log.warning("text_not_told", error=type(error).__name__)
        self._is_away = True
        with self._guard:
            self._followed = frozenset()
            self._drop(lambda speech: speech.is_over)


class Hearing:
    """What the models of one run write, as it is told from now on: the newest call of each step."""

    def __init__(self, run_id: UUID) -> None:
        self._run_id = run_id
        self._said: dict[str, Said] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="hearing", daemon=True)

    def __enter__(self) -> "Hearing":
        if settings.REDIS_URL:
            self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stopped.set()

    def of(self, step: str) -> str:
        """What the step, or the newest of what it stands for, has written so far."""
        said = self._said.get(step)
        return said.text if said else ""

    def _listen(self) -> None:
        while not self._stopped.is_set():
            try:
                with (
                    redis.Redis.from_url(settings.REDIS_URL) as client,
                    client.pubsub(ignore_subscribe_messages=True) as pubsub,
                ):
                    pubsub.subscribe(channel_of(self._run_id))
                    while not self._stopped.is_set():
                        self._take(pubsub.get_message(timeout=_PATIENCE_SECONDS))
            except (redis.RedisError, OSError):
                # The tree is drawn from the rows; it only says less meanwhile.
                self._stopped.wait(_AWAY_SECONDS)

    def _take(self, message: dict[str, bytes] | None) -> None:
        said = said_from_bytes(message["data"]) if message else None
        if said is None:
            return
        # A map's and a loop's agent runs stand in one line.
        step = said.step.partition("[")[0].partition(".")[0]
        before = self._said.get(step)
        is_same = before is not None and before.call_id == said.call_id
        self._said[step] = before.joined(said) if before and is_same else said


def _renew() -> None:
    # A fork inherits neither the thread nor, for certain, an unheld lock.
    global _speeches
    _speeches = _made()


def _made() -> Speeches:
    return Speeches(settings.REDIS_URL, most=settings.MUSTER_UNFOLLOWED_STREAMS)


def speeches() -> Speeches:
    """Those of this process."""
    return _speeches


_speeches = _made()
os.register_at_fork(after_in_child=_renew)
atexit.register(lambda: _speeches.stop())
