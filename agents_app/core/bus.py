"""The port through which the agents of a run send each other messages."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID, uuid5

from pydantic import JsonValue

from agents_app.core import values
from agents_app.core.errors import MessageRefusedError

MAX_CONTENT_BYTES: Final = 64 * 1024
MAX_CONDITION_BYTES: Final = 1_000
# Of one read: so many messages, and the content of so many bytes.
MAX_READ: Final = 100
MAX_READ_BYTES: Final = 64 * 1024
DEFAULT_TYPE: Final = "message"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,99}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A message to one step, to a topic, to those that have a capability, or to all others.

    `reply_to` answers a message by its id: it goes to whoever sent that, and belongs together
    with it by its correlation id. 10 is the highest priority, 0 the lowest.
    """

    content: JsonValue
    to: str = ""
    topic: str = ""
    capability: str = ""
    reply_to: UUID | None = None
    type: str = DEFAULT_TYPE
    priority: int = 5

    def fault(self) -> str | None:
        """What is wrong with it, in words for its sender."""
        if sum(map(bool, (self.to, self.topic, self.capability, self.reply_to))) > 1:
            return "name one of: to, topic, capability, reply_to; none of them tells everybody"
        if not 0 <= self.priority <= 10:
            return "priority is a whole number from 0 to 10"
        for name, text in (("type", self.type), ("topic", self.topic or "none")):
            if not _NAME.fullmatch(text):
                return f"{name} has 1 to 100 letters, digits, dots, colons, hyphens or underscores"
        size = values.json_size(self.content)
        if size > MAX_CONTENT_BYTES:
            return f"the content has {size:,} bytes, and at most {MAX_CONTENT_BYTES:,} may be"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A message that is stored. Its `number` is its place in the order of its run."""

    id: UUID
    number: int
    correlation_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A message as its reader gets it. `sender` is the place of the step that sent it."""

    id: UUID
    number: int
    sender: str
    type: str
    topic: str
    priority: int
    correlation_id: UUID
    content: JsonValue
    sent_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which unread messages a reader wants: the rest waits for a later look.

    With `wait_seconds` it waits so long for the first of them.
    """

    most: int = 20
    types: tuple[str, ...] = ()
    correlation_id: UUID | None = None
    wait_seconds: float = 0.0


class MessageBus(Protocol):
    """The messages of one agent of one run.

    `call_id` names what is done: a call that is made again, since its worker died, sends nothing
    twice and reads the same messages. Refusals are MessageRefusedError; what else it raises ends
    the attempt.
    """

    def send(self, message: Outgoing, *, call_id: UUID) -> Sent: ...

    def read(self, wanted: Wanted, *, call_id: UUID) -> Sequence[Incoming]:
        """Unread messages, the most urgent first, then in the order they were sent."""
        ...

    def subscribe(self, topic: str, *, condition: str = "") -> None:
        """Have messages of a topic, or of any, reach this agent, those sent before included.

        With a condition in CEL over `message`, only those for which it holds.
        """
        ...


class _NoBus:
    def send(self, message: Outgoing, *, call_id: UUID) -> Sent:
        raise MessageRefusedError("no_bus", "there is nobody to send messages to")

    def read(self, wanted: Wanted, *, call_id: UUID) -> Sequence[Incoming]:
        return ()

    def subscribe(self, topic: str, *, condition: str = "") -> None:
        raise MessageRefusedError("no_bus", "there is nobody who sends messages")


NO_BUS: Final[MessageBus] = _NoBus()
Handler = Callable[[Incoming], JsonValue]


class Handlers:
    """What is done with messages, by their type. Anybody may add types.

    A handler gives the content of its reply, or None for no reply.
    """

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}

    def on(self, message_type: str) -> Callable[[Handler], Handler]:
        def add(handler: Handler) -> Handler:
            if message_type in self._handlers:
                raise ValueError(f"two handlers for messages of type {message_type!r}")
            self._handlers[message_type] = handler
            return handler

        return add

    @property
    def types(self) -> tuple[str, ...]:
        return tuple(self._handlers)

    def serve(self, bus: MessageBus, *, call_id: UUID, wait_seconds: float = 0.0) -> int:
        """Read what there is of the known types, handle it, send the replies; how many it was."""
        wanted = Wanted(types=self.types, wait_seconds=wait_seconds)
        messages = bus.read(wanted, call_id=call_id)
        for message in messages:
            answer = self._handlers[message.type](message)
            if answer is not None:
                reply = Outgoing(content=answer, reply_to=message.id, type=f"{message.type}.reply")
                bus.send(reply, call_id=uuid5(call_id, str(message.number)))
        return len(messages)
