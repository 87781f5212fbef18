"""How a worker takes a message that bears the name of one of its tasks."""

from collections.abc import Callable
from typing import Any

from celery.exceptions import InvalidTaskError
from celery.worker.strategy import default

_MALFORMED = (AttributeError, KeyError, TypeError, ValueError)


def careful(task: Any, app: Any, consumer: Any, **options: Any) -> Callable[..., Any]:
    """Celery's own, but that what it cannot take apart is refused, and told of.

    Headers would end the worker; a body fails in a thread, where nobody hears of it, and Celery has
    the message among those at work for ever.
    """
    take = default(task, app, consumer, **options)

    def take_carefully(message: Any, body: Any, *more: Any, **named: Any) -> Any:
        try:
            if body is None:
                _look_at(message.payload)
            return take(message, body, *more, **named)
        except _MALFORMED as error:
            raise InvalidTaskError(f"the message is malformed: {error!r}") from error

    return take_carefully


def _look_at(body: Any) -> None:
    arguments, named, embedded = body
    if not (isinstance(arguments, list) and isinstance(named, dict) and isinstance(embedded, dict)):
        raise TypeError("the body is no task")
