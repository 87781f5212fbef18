"""Calls tools side by side, each for no longer than it may."""

from collections.abc import Sequence
from contextvars import copy_context
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic

from agents_app.core.hands import DueCall, Ends, end_of
from agents_app.core.journal import ToolEnd

_Ended = SimpleQueue[tuple[str, ToolEnd]]


class ToolThreads:
    """A thread for each call, in the context of its agent.

    Python cannot end a thread: a tool that takes too long is left to itself, and what it may
    still give is not heard.
    """

    def now(self) -> float:
        return monotonic()

    def ends_of(self, calls: Sequence[DueCall], *, within_seconds: float) -> Ends:
        ended: _Ended = SimpleQueue()
        began, limits = monotonic(), {}
        for due in calls:
            limits[due.call.id] = min(due.tool.timeout_seconds, within_seconds)
            _begin(due, ended)
        while limits:
            first = min(limits, key=lambda call_id: limits[call_id])
            try:
                call_id, end = ended.get(timeout=max(0.0, began + limits[first] - monotonic()))
            except Empty:
                call_id, end = first, _too_late(limits[first])
            if limits.pop(call_id, None) is not None:
                yield call_id, end


def _begin(due: DueCall, ended: _Ended) -> None:
    def work() -> None:
        try:
            end = end_of(due)
        except BaseException as error:  # such as SystemExit: somebody waits for this thread
            end = ToolEnd(error=type(error).__name__)
        ended.put((due.call.id, end))

    # As a daemon, it keeps no worker from ending.
    name = f"tool-{due.tool.name}"
    Thread(target=copy_context().run, args=(work,), name=name, daemon=True).start()


def _too_late(seconds: float) -> ToolEnd:
    return ToolEnd(
        error=f"no result within {seconds:.3g} s; it may have done its work all the same"
    )
