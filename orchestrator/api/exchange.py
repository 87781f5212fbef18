"""What agents of a run told each other, what they share, and their todos."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from agents_app.core.context_store import MAX_KEY_LENGTH
from agents_app.core.todos import TodoStatus
from orchestrator.models import ContextValue
from orchestrator.selectors.exchange import context_of, messages_of, todos_of
from tenants.api.pagination import ByNumber, NewestFirst
from tenants.api.serializers import Query, Text


class MessageOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    number = serializers.IntegerField(help_text="Its place in the order of the run's messages.")
    sender = serializers.CharField(source="sender.step", help_text="The step that sent it.")
    receiver = serializers.CharField(
        source="receiver.step",
        allow_null=True,
        default=None,
        help_text="The step that it is for; none where it is for several.",
    )
    topic = serializers.CharField()
    capability = serializers.CharField()
    type = serializers.CharField()
    priority = serializers.IntegerField()
    correlation_id = serializers.UUIDField(help_text="The message that it all began with.")
    content = serializers.JSONField()
    created_at = serializers.DateTimeField()


class ContextOut(serializers.Serializer[Any]):
    key = serializers.CharField()
    version = serializers.IntegerField()
    value = serializers.JSONField(allow_null=True)
    private_to = serializers.SerializerMethodField(
        help_text="The agent run that alone sees it; none where all of the run do."
    )
    writer = serializers.CharField(source="writer.step", help_text="The step that wrote it.")
    created_at = serializers.DateTimeField()

    def get_private_to(self, value: ContextValue) -> str | None:
        return None if value.namespace == value.run_id else str(value.namespace)


class TodoOut(serializers.Serializer[Any]):
    id = serializers.IntegerField(source="number")
    text = serializers.CharField()
    status = serializers.ChoiceField([status.value for status in TodoStatus])
    completed = serializers.SerializerMethodField()
    priority = serializers.IntegerField()
    needs = serializers.ListField(child=serializers.IntegerField())
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()

    def get_completed(self, todo: Any) -> bool:
        return bool(todo.status == TodoStatus.COMPLETED)


class ContextQuery(Query):
    key = Text(
        required=False,
        max_length=MAX_KEY_LENGTH,
        help_text="The versions of this one that are kept, the newest first.",
    )


class ExchangeActions:
    """Calls of the run view; apart from it, since they are a subject of their own."""

    @extend_schema(responses=MessageOut(many=True))
    @action(detail=True, pagination_class=ByNumber)
    def messages(self: Any, request: Request, **_: Any) -> Response:
        """What the run's agents told each other, oldest first."""
        self.query(Query)
        answer: Response = self.page(messages_of(self._run()), MessageOut)
        return answer

    @extend_schema(parameters=[ContextQuery], responses=ContextOut(many=True))
    @action(detail=True, pagination_class=NewestFirst)
    def context(self: Any, request: Request, **_: Any) -> Response:
        """The values that the run's agents share or keep, the last written first."""
        asked = self.query(ContextQuery)
        answer: Response = self.page(context_of(self._run(), **asked), ContextOut)
        return answer

    @extend_schema(responses=TodoOut(many=True))
    @action(detail=True, pagination_class=ByNumber)
    def todos(self: Any, request: Request, **_: Any) -> Response:
        """What the run's agents have set themselves to do, in the order they wrote it."""
        self.query(Query)
        answer: Response = self.page(todos_of(self._run()), TodoOut)
        return answer
