"""How a worker takes a message that bears the name of one of its tasks."""

from collections.abc import Callable
from typing import Any

from celery.exceptions import InvalidTaskError
from celery.worker.strategy import default

_MALFORMED = (AttributeError, KeyError, TypeError, ValueError)


def careful(task: Any, app: Any, consumer: Any, **options: Any) -> Callable[..., Any]:
    """Celery's own, but that a message it cannot take apart is refused; it would end the worker."""
    take = default(task, app, consumer, **options)

    def take_carefully(*message: Any, **more: Any) -> Any:
        try:
            return take(*message, **more)
        except _MALFORMED as error:
            raise InvalidTaskError(f"the message is malformed: {error!r}") from error

    return take_carefully
