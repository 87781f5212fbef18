"""What others put into the same queues: another application's work, and what makes no sense."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Final
from uuid import uuid4

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from orchestrator.chaos.mail import QUEUES

_JSON: Final = "application/json"
_TASKS: Final = ("orchestrator.run_agent", "orchestrator.advance")


class Noise:
    """A second Celery application on the broker of the storm."""

    def __init__(self, broker: str, rng: Random) -> None:
        self._app = Celery("other", broker=broker, set_as_current=False)
        self._app.conf.broker_transport_options = {"socket_timeout": 5}
        self._rng = rng
        self.sent = 0

    def make(self) -> None:
        """One message of each kind."""
        try:
            for send in _KINDS:
                send(self)
                self.sent += 1
        except (OperationalError, RedisError, OSError):
            # Another fault has just taken the broker away.
            return

    def close(self) -> None:
        self._app.close()

    def _foreign(self) -> None:
        self._task("other.work", [1, "two"])

    def _unknown(self) -> None:
        self._task(_TASKS[0], [str(uuid4()) for _ in range(3)])
        self._task(_TASKS[1], [str(uuid4()) for _ in range(2)])

    def _wrong(self) -> None:
        wrong: list[list[Any]] = [[], ["no id", "nor this"], [1, None, {"a": []}], ["x"] * 9]
        for arguments in wrong:
            self._task(self._rng.choice(_TASKS), arguments)
        self._task(_TASKS[1], [], run_id="named")

    def _garbled(self) -> None:
        for body in ("{not json", '"a text"', "[[], {}]", "[1, 2, 3]"):
            self._publish(body, headers=self._headers())

    def _headless(self) -> None:
        self._publish("[[], {}, {}]", headers={"task": _TASKS[1]})

    def _no_task(self) -> None:
        self._publish('{"hello": "world"}', headers={})

    def _forbidden(self) -> None:
        pickle = "application/x-python-serialize"
        self._publish(b"\x80\x04N.", headers=self._headers(), content_type=pickle)

    def _headers(self) -> dict[str, str]:
        return {"task": self._rng.choice(_TASKS), "id": str(uuid4())}

    def _task(self, name: str, arguments: list[Any], **named: Any) -> None:
        self._app.send_task(
            name, arguments, named, queue=self._rng.choice(QUEUES), ignore_result=True
        )

    def _publish(
        self, body: str | bytes, *, headers: dict[str, Any], content_type: str = _JSON
    ) -> None:
        encoding = "binary" if isinstance(body, bytes) else "utf-8"
        with self._app.pool.acquire(block=True) as connection:
            connection.Producer().publish(
                body,
                routing_key=self._rng.choice(QUEUES),
                headers=headers,
                content_type=content_type,
                content_encoding=encoding,
            )


_KINDS: Final[tuple[Callable[[Noise], None], ...]] = (
    Noise._foreign,
    Noise._unknown,
    Noise._wrong,
    Noise._garbled,
    Noise._headless,
    Noise._no_task,
    Noise._forbidden,
)
