"""How a worker process ends: what it has not begun goes back, what runs is finished or handed over.

A process ends when it is told to, and by itself when too many of its threads hang: a thread cannot
be ended from outside, so that each one that never returns leaves the process with one less.
"""

import json
import logging
import math
import os
import signal
import threading
from collections.abc import Sequence
from typing import Any, Final

import structlog
from celery.bootsteps import StartStopStep
from celery.concurrency.thread import TaskPool
from celery.signals import worker_shutting_down
from django.conf import settings
from psycopg import Error
from psycopg_pool import PoolTimeout
from redis import Redis

from agents_app.tool_threads import hung_tools
from orchestrator.dispatch.canvas import publish_sweep
from orchestrator.execution.leases import LeaseKeeper, keeper_of
from orchestrator.services.desk import Desk

log = structlog.get_logger(__name__)

# So that whoever starts processes knows why this one has ended.
EXIT_HUNG: Final = os.EX_TEMPFAIL
EXIT_STUCK: Final = os.EX_SOFTWARE
_LOOK_SECONDS: Final = 1.0
_BROKER_SECONDS: Final = 5.0
# Beyond the time that running agents are given: for the broker and the database to answer.
_MARGIN_SECONDS: Final = 15.0


class Leaving(StartStopStep):  # type: ignore[misc]
    """Celery stops its steps in reverse: this one after its consumer and before its pool."""

    requires = ("celery.worker.components:Pool",)

    def include_if(self, worker: Any) -> bool:
        return isinstance(worker.pool, TaskPool)

    def create(self, worker: Any) -> None:
        threads = worker.pool.limit
        self._desk = Desk(threads, places=threads * worker.prefetch_multiplier)
        worker.pool.executor = self._desk
        self._keeper = keeper_of(worker.hostname)
        self._watch = Watch(
            self._keeper,
            threads=threads,
            patience_seconds=worker.app.conf.worker_soft_shutdown_timeout,
        )

    def start(self, worker: Any) -> None:
        self._watch.start()

    def stop(self, worker: Any) -> None:
        self._leave(worker, seconds=worker.app.conf.worker_soft_shutdown_timeout)

    def terminate(self, worker: Any) -> None:
        """Celery has waited already."""
        self._leave(worker, seconds=0)

    def _leave(self, worker: Any, *, seconds: float) -> None:
        given_back = _give_back(worker, self._desk)
        self._desk.await_all_but(lambda: self._keeper.hung, seconds=seconds)
        handed_over = _hand_over(self._keeper)
        left = self._desk.at_work
        log.info("worker_leaves", given_back=given_back, handed_over=handed_over, cut=left)
        if left or self._watch.has_had_enough:
            _exit(EXIT_HUNG if self._watch.has_had_enough else os.EX_OK)


class Watch(threading.Thread):
    """Has the process leave when too many threads hang, and sees to it that leaving ends."""

    def __init__(self, keeper: LeaseKeeper, *, threads: int, patience_seconds: float) -> None:
        super().__init__(name="watch", daemon=True)
        self._keeper = keeper
        self._threads = threads
        self._limit = most_hung(threads)
        self._patience_seconds = patience_seconds
        self._leaving = threading.Event()
        self.has_had_enough = False
        worker_shutting_down.connect(self._leave)

    def _leave(self, **_: Any) -> None:
        self._leaving.set()

    def run(self) -> None:
        while not self._leaving.wait(_LOOK_SECONDS):
            hung = self._keeper.hung + hung_tools()
            if hung >= self._limit:
                log.error("worker_hangs", hung=hung, threads=self._threads)
                self.has_had_enough = True
                os.kill(os.getpid(), signal.SIGTERM)
                break
        threading.Event().wait(self._patience_seconds + _MARGIN_SECONDS)
        log.error("worker_stuck", reason="it did not end in time by itself")
        _exit(EXIT_HUNG if self.has_had_enough else EXIT_STUCK)


def most_hung(threads: int) -> int:
    """With how many hung threads a process leaves."""
    return max(1, math.ceil(settings.MUSTER_HUNG_SHARE * threads))


def _give_back(worker: Any, desk: Desk) -> int:
    """Puts what nobody has begun where it came from, for the next one who asks."""
    requests = desk.call_back()
    messages = [
        (request.message.delivery_info["routing_key"], json.dumps(request.message.serializable()))
        for request in requests
    ]
    try:
        _stop_listening(worker.consumer)
        _put_back(messages)
    except Exception as error:
        # Whatever becomes of a connection that is broken: leaving goes on, the rows are still
        # queued, and the sweeper sends their messages again.
        log.warning("hint_not_sent", messages=len(messages), error=type(error).__name__)
        return 0
    return len(messages)


def _put_back(messages: Sequence[tuple[str, str]]) -> None:
    """Not by Celery, which would wait for a broker that is away."""
    if not messages:
        return
    with Redis.from_url(
        settings.CELERY_BROKER_URL,
        socket_timeout=_BROKER_SECONDS,
        socket_connect_timeout=_BROKER_SECONDS,
    ) as broker:
        for queue, message in reversed(messages):
            # Workers take from the right.
            broker.rpush(queue, message)


def _stop_listening(consumer: Any) -> None:
    """What the broker sends before it hears of this goes back too."""
    if consumer.task_consumer is None:
        return
    channel = consumer.task_consumer.channel
    # Celery has not told it yet which messages were begun, and it would give those back as well.
    channel.do_restore = False
    channel.close()


def _hand_over(keeper: LeaseKeeper) -> int:
    try:
        handed_over = keeper.hand_over()
    except (Error, PoolTimeout) as error:
        # They run out by themselves.
        log.warning("leases_not_renewed", error=type(error).__name__)
        return 0
    if handed_over:
        publish_sweep()
    return handed_over


def _exit(code: int) -> None:
    """At once: Python would wait for the threads."""
    logging.shutdown()
    os._exit(code)
