"""What agents of a run told each other, what they share, and their todos, for people to read."""

from collections.abc import Sequence
from uuid import UUID

from django.db.models import Count, Exists, OuterRef, QuerySet

from orchestrator.models import AgentMessage, ContextValue, MessagePlace, Run, Todo

MESSAGES_SHOWN = 100


def messages_of(run: Run) -> QuerySet[AgentMessage]:
    return AgentMessage.objects.filter(run=run).select_related("sender", "receiver")


def latest_messages_of(run: Run) -> Sequence[AgentMessage]:
    """The newest, the oldest of them first."""
    return list(messages_of(run).order_by("-number")[:MESSAGES_SHOWN])[::-1]


def context_of(run: Run, *, key: str = "") -> QuerySet[ContextValue]:
    """What holds of all values, those of single agents included; of one key, all versions."""
    rows = ContextValue.objects.filter(run=run).select_related("writer")
    if key:
        return rows.filter(key=key)
    later = ContextValue.objects.filter(
        run=OuterRef("run"),
        namespace=OuterRef("namespace"),
        key=OuterRef("key"),
        version__gt=OuterRef("version"),
    )
    return rows.filter(~Exists(later))


def todos_of(run: Run) -> QuerySet[Todo]:
    return Todo.objects.filter(run=run)


def messages_handled(run: Run) -> dict[UUID, tuple[int, int]]:
    """How many messages each agent run sent, and how many it read."""
    by_sender = AgentMessage.objects.filter(run=run).order_by().values("sender_id")
    sent = dict(by_sender.annotate(sent=Count("id")).values_list("sender_id", "sent"))
    places = MessagePlace.objects.filter(run=run)
    read = dict(places.values_list("agent_run_id", "taken"))
    return {one: (sent.get(one, 0), read.get(one, 0)) for one in sent.keys() | read.keys()}
