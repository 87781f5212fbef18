"""Telling other agents of the run something, and hearing from them."""

from typing import Annotated, Any
from uuid import UUID, uuid5

from pydantic import Field, JsonValue

from agents_app.core.bus import MAX_READ, Incoming, Outgoing, Wanted
from agents_app.core.tools import ToolContext, tool

# A wait has to end before the tool's time does.
_WAIT = 50
# Messages of 64 KB together, and what is told of each.
_MAX_RESULT_BYTES = 128 * 1024
Seconds = Annotated[float, Field(ge=0, le=_WAIT)]


@tool(max_result_bytes=_MAX_RESULT_BYTES)
def send_message(
    context: ToolContext,
    content: JsonValue,
    to: str = "",
    topic: str = "",
    capability: str = "",
    reply_to: UUID | None = None,
    type: str = "message",
    priority: Annotated[int, Field(ge=0, le=10)] = 5,
    wait_for_reply_seconds: Seconds = 0,
) -> dict[str, Any]:
    """Send a message to other agents of this run.

    To one step (`to`), to the subscribers of a `topic`, to all with a `capability`, to the sender
    of a message (`reply_to`, its id), or, with none of these, to all others. 10 is the highest
    priority. With `wait_for_reply_seconds` it gives the replies that come within that time.
    """
    message = Outgoing(
        content=content,
        to=to,
        topic=topic,
        capability=capability,
        reply_to=reply_to,
        type=type,
        priority=priority,
    )
    sent = context.messages.send(message, call_id=context.call_id)
    told: dict[str, Any] = {"id": str(sent.id), "correlation_id": str(sent.correlation_id)}
    if wait_for_reply_seconds:
        wanted = Wanted(correlation_id=sent.correlation_id, wait_seconds=wait_for_reply_seconds)
        replies = context.messages.read(wanted, call_id=uuid5(context.call_id, "replies"))
        told["replies"] = [_told(reply) for reply in replies]
    return told


@tool(max_result_bytes=_MAX_RESULT_BYTES)
def read_messages(
    context: ToolContext,
    most: Annotated[int, Field(ge=1, le=MAX_READ)] = 20,
    types: Annotated[list[str], Field(max_length=20)] = [],  # noqa: B006 - never changed
    correlation_id: UUID | None = None,
    wait_seconds: Seconds = 0,
) -> list[dict[str, Any]]:
    """Read messages from other agents of this run that were not read yet, the most urgent first.

    Only those of some `types`, or that belong to a conversation, if you say so; the others stay
    unread. With `wait_seconds` it waits so long for the first.
    """
    wanted = Wanted(
        most=most,
        types=tuple(types),
        correlation_id=correlation_id,
        wait_seconds=wait_seconds,
    )
    return [_told(message) for message in context.messages.read(wanted, call_id=context.call_id)]


@tool()
def subscribe_messages(context: ToolContext, topic: str = "", condition: str = "") -> str:
    """Get the messages of a topic, or of all topics; read them with read_messages.

    With a `condition` in CEL only those for which it holds, such as
    `message.content.amount > 100 && message.type == "order"`; it knows `type`, `topic`, `priority`,
    `sender` and `content`.
    """
    context.messages.subscribe(topic, condition=condition)
    return "subscribed"


def _told(message: Incoming) -> dict[str, Any]:
    return {
        "id": str(message.id),
        "from": message.sender,
        "type": message.type,
        **({"topic": message.topic} if message.topic else {}),
        "priority": message.priority,
        "correlation_id": str(message.correlation_id),
        "content": message.content,
        "sent_at": message.sent_at.isoformat(),
    }
