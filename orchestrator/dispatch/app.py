"""A Celery application whose publishing can be gathered into one pipeline."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, TypeAlias

from celery import Celery
from celery.signals import after_task_publish, before_task_publish
from celery.utils import uuid
from kombu.messaging import Producer

# The task, its queue and its group.
_Key: TypeAlias = tuple[str, str | None, str | None]
_batch: ContextVar[_Batch | None] = ContextVar("batch", default=None)
# Sent on in portions, so that workers begin while the rest of a wide level is being written.
_PORTION: Final = 16


class BatchingCelery(Celery):
    """Inside `batch()` the publishes of this application go out in few round trips.

    Needed because a chord drops the producer that it is given and takes one from the pool.
    """

    @contextmanager
    def batch(self) -> Iterator[None]:
        with self.producer_pool.acquire(block=True) as producer, producer.batch(_PORTION):
            token = _batch.set(_Batch(self, producer))
            try:
                yield
            finally:
                _batch.reset(token)

    def producer_or_acquire(self, producer: Any = None) -> Any:
        batch = _batch.get()
        return super().producer_or_acquire(producer or (batch and batch.producer))

    def send_task(self, name: str, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """As Celery's; in a batch, messages that are alike share the work on them.

        Not while somebody listens to the publishing: each message is then Celery's own.
        """
        batch = _batch.get()
        if batch is None or kwargs or not _is_plain(options) or _is_listened_to():
            return super().send_task(name, args, kwargs, **options)
        task_id = options.get("task_id") or uuid()
        batch.send(name, args, {**options, "task_id": task_id})
        return self.AsyncResult(task_id)

    @cached_property
    def patterns(self) -> dict[_Key, _Pattern]:
        """Of messages that belong to no group."""
        return {}


_PLAIN: Final = frozenset(
    {"task_id", "producer", "result_cls", "task_type", "queue", "serializer", "headers"}
    | {"reply_to", "group_id", "group_index", "chord", "add_to_parent", "ignore_result"}
)


def _is_plain(options: Mapping[str, Any]) -> bool:
    """Whether the message says nothing but which task, which group and which queue."""
    return all(value is None or name in _PLAIN for name, value in options.items())


def _is_listened_to() -> bool:
    return bool(before_task_publish.receivers or after_task_publish.receivers)


@dataclass(frozen=True, slots=True)
class _Pattern:
    """What messages that are alike have in common, ready to be sent."""

    headers: Mapping[str, Any]
    properties: Mapping[str, Any]
    embedded: str  # the third part of the body: what follows the task
    queue: str


class _Batch:
    """The messages of one pipeline. Building each from scratch costs five times as much."""

    def __init__(self, app: BatchingCelery, producer: Producer) -> None:
        self.producer = producer
        self._app = app
        self._patterns: dict[_Key, _Pattern] = {}

    def send(self, name: str, args: Sequence[Any], options: Mapping[str, Any]) -> None:
        pattern = self._pattern(name, options)
        task_id = options["task_id"]
        self.producer.publish(
            f"[{json.dumps(args)}, {{}}, {pattern.embedded}]",
            exchange="",
            routing_key=pattern.queue,
            content_type="application/json",
            content_encoding="utf-8",
            headers={
                **pattern.headers,
                **(options.get("headers") or {}),
                "id": task_id,
                "root_id": task_id,
                "group_index": options.get("group_index"),
                "argsrepr": repr(args),
            },
            **{**pattern.properties, "correlation_id": task_id},
        )

    def _pattern(self, name: str, options: Mapping[str, Any]) -> _Pattern:
        group_id = options.get("group_id")
        patterns = self._patterns if group_id else self._app.patterns
        key = (name, options.get("queue"), group_id)
        if key not in patterns:
            patterns[key] = self._new_pattern(name, options)
        return patterns[key]

    def _new_pattern(self, name: str, options: Mapping[str, Any]) -> _Pattern:
        amqp = self._app.amqp
        message = amqp.create_task_message(
            options["task_id"],
            name,
            group_id=options.get("group_id"),
            chord=options.get("chord"),
            reply_to=self._app.thread_oid,
            ignore_result=True,
            argsrepr="",
        )
        queue = amqp.queues[options["queue"]] if options.get("queue") else _queue_of(amqp, name)
        self.producer.maybe_declare(queue)
        return _Pattern(
            headers=message.headers,
            properties=message.properties,
            embedded=json.dumps(message.body[2]),
            queue=queue.name,
        )


def _queue_of(amqp: Any, name: str) -> Any:
    return amqp.router.route({}, name)["queue"]
