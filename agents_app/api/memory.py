from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from agents_app.core.memory import MAX_KEY, MEMORY_TYPES, MemoryScope
from agents_app.selectors.memory import export_of, memory_entries
from agents_app.services import memory as service
from tenants.api.base import ApiView, no_content
from tenants.api.serializers import Query, Strict, Text, Whole
from tenants.permissions import HasScope, OfWholeTenant
from tenants.roles import Scope

MEMORY_SCOPES = [scope.value for scope in MemoryScope]
TAUGHT_SCOPES = [MemoryScope.AGENT.value, MemoryScope.TENANT.value]


class ExportQuery(Strict):
    scope = serializers.ChoiceField(MEMORY_SCOPES, required=False)
    owner = Text(max_length=63, required=False, help_text="A run's id, or an agent's slug.")
    kind = Text(max_length=40, required=False)
    search = Text(max_length=500, required=False, help_text='Words, "phrases", `or`, and `-`.')
    set_aside = serializers.BooleanField(
        required=False, allow_null=True, default=None, help_text="What cannot be read, or can."
    )


class MemoryQuery(ExportQuery, Query):
    pass


class MemoryBody(Strict):
    scope = serializers.ChoiceField(TAUGHT_SCOPES)
    owner = Text(max_length=63, required=False, help_text="Scope agent: its slug.")
    kind = serializers.ChoiceField([*MEMORY_TYPES], required=False, default="note")
    content = serializers.DictField(help_text='As its kind has it, such as {"note": "..."}.')
    key = Text(max_length=MAX_KEY, required=False, help_text="Writes over what is kept there.")
    days = Whole(min_value=1, max_value=service.MOST_DAYS, required=False)


class MemoryOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    scope = serializers.CharField()
    owner = serializers.CharField(help_text="A run's id, an agent's slug, or empty: the tenant.")
    key = serializers.CharField()
    kind = serializers.CharField()
    content = serializers.JSONField()
    version = serializers.IntegerField()
    run_id = serializers.UUIDField(allow_null=True, help_text="The run that wrote it last.")
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    fault = serializers.CharField(help_text="Why it cannot be read; empty: it can.")


class MemoryExport(serializers.Serializer[Any]):
    entries = MemoryOut(many=True)


class MemoryView(ApiView):
    """What agents remember: of a run, of an agent, or of the tenant."""

    read_scope = Scope.RUNS_READ
    write_scope = Scope.WORKFLOWS_WRITE
    permission_classes = (HasScope, OfWholeTenant)

    @extend_schema(parameters=[MemoryQuery], responses=MemoryOut(many=True))
    def list(self, request: Request) -> Response:
        return self.page(memory_entries(**self.query(MemoryQuery)), MemoryOut)

    @extend_schema(responses=MemoryOut)
    def retrieve(self, request: Request, **_: Any) -> Response:
        return self.one(self.found(memory_entries()), MemoryOut)

    @extend_schema(request=MemoryBody, responses={201: MemoryOut})
    def create(self, request: Request) -> Response:
        """Have agents remember something."""
        asked = self.body(MemoryBody)
        entry = service.teach(**{**asked, "scope": MemoryScope(asked["scope"])})
        return self.created(self.shown(MemoryOut, entry), at="memory-detail")

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, **_: Any) -> Response:
        service.delete_entry(self.found(memory_entries()))
        return no_content()

    @extend_schema(parameters=[ExportQuery], responses=MemoryExport)
    @action(detail=False, methods=["get"], pagination_class=None)
    def export(self, request: Request) -> Response:
        """All of it as one document, at most 10,000 entries."""
        return Response({"entries": export_of(memory_entries(**self.query(ExportQuery)))})
