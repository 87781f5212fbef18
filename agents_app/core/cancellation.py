"""How a tool hears that nobody waits for it any more, and how async ones are ended by it."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any


class Cancellation:
    """Set once, by whoever has stopped waiting for a call."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._is_set = False
        self._told: list[Callable[[], object]] = []

    @property
    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        with self._guard:
            self._is_set, told = True, self._told
            self._told = []
        for each in told:
            each()

    def then(self, tell: Callable[[], object]) -> None:
        """Call `tell` when it is set; at once, if it is."""
        with self._guard:
            if not self._is_set:
                self._told.append(tell)
                return
        tell()


_current: ContextVar[Cancellation] = ContextVar("tool_cancellation")


def current_cancellation() -> Cancellation:
    """That of the call which this thread is in; a new one outside of any."""
    return _current.get(None) or Cancellation()


@contextmanager
def cancelled_by(cancellation: Cancellation) -> Iterator[None]:
    token = _current.set(cancellation)
    try:
        yield
    finally:
        _current.reset(token)


class CallOverError(Exception):
    """The time of a call is over, or nobody waits for it any more."""


def finished(work: Coroutine[Any, Any, Any], *, within_seconds: float) -> Any:
    """What a coroutine gives. Raises CallOverError once its time is over or nobody waits for it.

    It is cancelled then, and so really ends; one that takes no notice ends when it likes.
    """
    return asyncio.run(_finished(work, within_seconds, current_cancellation()))


async def _finished(
    work: Coroutine[Any, Any, Any], within_seconds: float, cancellation: Cancellation
) -> Any:
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)

    def cancel() -> None:
        # The call may have ended in this very moment, and its loop with it.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(task.cancel)

    cancellation.then(cancel)
    try:
        async with asyncio.timeout(within_seconds) as limit:
            return await task
    except asyncio.CancelledError:
        raise CallOverError from None
    except TimeoutError:
        if limit.expired():
            raise CallOverError from None
        raise  # it is the tool's own
