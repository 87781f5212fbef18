"""A worker's threads, and how many messages it takes for them."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any, Final

from celery.bootsteps import StartStopStep
from celery.concurrency.thread import TaskPool
from celery.worker.request import Request

_SHORT_SECONDS: Final = 0.2


class Desk(ThreadPoolExecutor):
    """Celery's threads, and the message that each has got."""

    def __init__(self, threads: int, *, places: int) -> None:
        super().__init__(max_workers=threads)
        self._places = places
        self._requests: dict[Future[Any], Request] = {}
        self._counting = threading.Lock()
        # Called by the thread that has made the first free place at a full desk.
        self.on_place: Callable[[], object] = lambda: None

    def submit(self, call: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = super().submit(call, *args, **kwargs)
        with self._counting:
            # Celery's last argument is the method of the request that tells it of its beginning.
            self._requests[future] = args[-1].__self__
        # Called whatever becomes of the call, also if Celery itself stumbles.
        future.add_done_callback(self._ended)
        return future

    def _ended(self, future: Future[Any]) -> None:
        with self._counting:
            was_full = not self.has_place()
            del self._requests[future]
            is_news = was_full and self.has_place()
        if is_news:
            self.on_place()

    def has_place(self) -> bool:
        return len(self._requests) < self._places

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        # A thread that hangs would keep Celery waiting for ever, and `Leaving` has waited before.
        super().shutdown(wait=False, cancel_futures=cancel_futures)

    def call_back(self) -> list[Request]:
        """What no thread has begun, oldest first. From now on nothing is."""
        return [request for future, request in list(self._requests.items()) if future.cancel()]

    @property
    def at_work(self) -> int:
        return len(self._requests)

    def await_all_but(self, hung: Callable[[], int], *, seconds: float) -> None:
        until = time.monotonic() + seconds
        while self.at_work > hung() and time.monotonic() < until:
            wait(list(self._requests), timeout=_SHORT_SECONDS, return_when=FIRST_COMPLETED)


class Intake(StartStopStep):  # type: ignore[misc]
    """Has the worker ask for a message when it has a place for it, and leave the rest to others.

    Celery would go by acknowledgements. Early ones come when a thread begins, so that a busy worker
    takes as much again. Late ones never come for a call that fails before Celery traces it, as over
    a body that it cannot read, and its place would be lost for good; nor does Celery's own
    `worker_disable_prefetch` forget such calls.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def include_if(self, consumer: Any) -> bool:
        return isinstance(consumer.pool, TaskPool)

    def create(self, consumer: Any) -> None:
        return None

    def start(self, consumer: Any) -> None:
        """With each connection to the broker anew, since the limit is that of its channel."""
        desk: Desk = consumer.pool.executor
        desk.on_place = partial(consumer.call_soon, _look_again)
        consumer.task_consumer.channel.qos.can_consume = desk.has_place


def _look_again() -> None:
    """Nothing: with something to call Celery's loop wakes up, and asks for what it may have."""
