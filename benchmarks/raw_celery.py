"""The yardstick: plain Celery, no database, nothing durable.

The same 20 levels of 50 no-op tasks, dispatched level by level by chords, on the threads pool,
tuned with all that serves it: no emulated acks, no results but what the chords count, and one
pipeline a level. A run ends with a push to a list that the benchmark waits for.
"""

import os
from typing import Any

import redis
from celery import Celery, chord
from celery.backends.redis import RedisBackend
from kombu.entity import Queue

URL = os.environ["RAW_REDIS_URL"]
DONE = "raw-done"


class Backend(RedisBackend):
    """Without the subscription to each result, which nobody reads."""

    def on_task_call(self, producer: Any, task_id: str) -> None:
        return None

    def add_pending_result(self, result: Any, *_: Any, **__: Any) -> Any:
        return result


class BatchingApp(Celery):
    _producer: Any = None

    def publish_at_once(self, signature: Any) -> None:
        with self.producer_pool.acquire(block=True) as producer, producer.batch(1000):
            self._producer = producer
            try:
                signature.apply_async()
            finally:
                self._producer = None

    def producer_or_acquire(self, producer: Any = None) -> Any:
        return super().producer_or_acquire(producer or self._producer)


app = BatchingApp("raw", broker=URL, backend=f"benchmarks.raw_celery:Backend+{URL}")
app.conf.update(
    task_default_queue="raw",
    task_queues=[Queue("raw")],
    task_ignore_result=True,
    result_expires=600,
    broker_transport_options={"ack_emulation": False},
    worker_prefetch_multiplier=int(os.environ.get("RAW_PREFETCH", "4")),
    worker_send_task_events=os.environ.get("CELERY_TASK_EVENTS") == "true",
    worker_hijack_root_logger=False,
)


@app.task(name="raw.noop")
def noop() -> None:
    return None


@app.task(name="raw.level")
def level(number: int, levels: int, width: int) -> None:
    if number < levels:
        start_level(number, levels, width)
        return
    redis.Redis.from_url(URL).lpush(DONE, 1)


def start_level(number: int, levels: int, width: int) -> None:
    header = [noop.si() for _ in range(width)]
    app.publish_at_once(chord(header, level.si(number + 1, levels, width)))
