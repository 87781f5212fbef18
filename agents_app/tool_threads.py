"""Calls tools side by side, each for no longer than it may, and as long as somebody waits."""

import threading
from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic

from django.db import connections

from agents_app.core.cancellation import Cancellation, cancelled_by
from agents_app.core.errors import ToolFailedError
from agents_app.core.hands import DueCall, Ends, end_of
from agents_app.core.journal import ToolEnd
from tenants.kernel.errors import PlatformError

# How soon it is noticed that nobody waits any more.
_GLANCE_SECONDS = 0.25
# How long after its end was given up a thread may still take to notice.
_GRACE_SECONDS = 5.0

# What came of a call; or what a port raised in it to end the attempt.
_Came = ToolEnd | PlatformError
_Ended = SimpleQueue[tuple[str, _Came]]
_given_up: dict[Thread, float] = {}
_guard = threading.Lock()


def hung_tools() -> int:
    """How many threads of this process go on with calls that were given up some time ago."""
    with _guard:
        for thread in [thread for thread in _given_up if not thread.is_alive()]:
            del _given_up[thread]
        return sum(monotonic() - since > _GRACE_SECONDS for since in _given_up.values())


def _go_on() -> None:
    return None


@dataclass(frozen=True, slots=True)
class _Call:
    due: DueCall
    until: float
    seconds: float
    thread: Thread
    cancellation: Cancellation

    def give_up(self) -> None:
        self.cancellation.set()
        if self.thread.is_alive():
            with _guard:
                _given_up[self.thread] = monotonic()


@dataclass(frozen=True, slots=True)
class ToolThreads:
    """A thread for each call that takes its time, in the context of its agent.

    Python cannot end a thread: a tool that takes too long is told so, by its cancellation, and
    left to itself. Async tools and what uses our transport end soon after; what others may still
    give is not heard. `check` is asked now and then, and raises once the attempt is to end.
    """

    check: Callable[[], None] = field(default=_go_on)

    def now(self) -> float:
        return monotonic()

    def ends_of(self, calls: Sequence[DueCall], *, within_seconds: float) -> Ends:
        ended: _Ended = SimpleQueue()
        slow = [due for due in calls if not due.tool.is_instant]
        open_calls = {due.call.id: _begun(due, ended, within_seconds) for due in slow}
        try:
            for due in calls:
                if due.tool.is_instant:
                    yield due.call.id, end_of(due)
            while open_calls:
                call_id, came = self._next(ended, open_calls)
                if open_calls.pop(call_id, None) is None:
                    continue
                if isinstance(came, PlatformError):
                    raise came
                yield call_id, came
        finally:
            for call in open_calls.values():
                call.give_up()

    def _next(self, ended: _Ended, open_calls: dict[str, _Call]) -> tuple[str, _Came]:
        """The next end: of a call that has ended, or of one whose time is over."""
        first = min(open_calls.values(), key=lambda call: call.until)
        while True:
            left = first.until - monotonic()
            try:
                return ended.get(timeout=min(max(left, 0.0), _GLANCE_SECONDS))
            except Empty:
                self.check()
            if first.until <= monotonic():
                first.give_up()
                return first.due.call.id, ToolEnd.failed(first.due.tool.late(first.seconds))


def _begun(due: DueCall, ended: _Ended, within_seconds: float) -> _Call:
    cancellation = Cancellation()

    def work() -> None:
        came: _Came
        try:
            with cancelled_by(cancellation):
                came = end_of(due)
        except PlatformError as error:
            came = error
        except BaseException as error:  # such as SystemExit: somebody waits for this thread
            came = ToolEnd.failed(ToolFailedError(due.tool.name, type(error).__name__))
        ended.put((due.call.id, came))
        # A tool that read rows leaves no connection behind.
        connections.close_all()

    # As a daemon, it keeps no worker from ending.
    name = f"tool-{due.tool.name}"
    thread = Thread(target=copy_context().run, args=(work,), name=name, daemon=True)
    thread.start()
    seconds = min(due.tool.timeout_seconds, within_seconds)
    return _Call(due, monotonic() + seconds, seconds, thread, cancellation)
