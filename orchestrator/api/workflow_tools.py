"""Published workflows as tools, and the door to them over MCP."""

from typing import Any

from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from orchestrator.selectors.workflow_tools import workflow_tool, workflow_tools
from tenants.api.base import ApiView
from tenants.api.serializers import Query
from tenants.roles import Scope

# Only ever from the site to the program in front of it: whose tools are asked for.
OPEN_TO = "X-Muster-Open-To"


class WorkflowToolOut(serializers.Serializer[Any]):
    name = serializers.CharField(help_text="With the project's before it where it is not clear.")
    description = serializers.CharField()
    input_schema = serializers.DictField(help_text="JSON Schema of the run's input.")
    workflow = serializers.UUIDField()
    version = serializers.IntegerField()
    project = serializers.CharField()


class WorkflowToolList(serializers.Serializer[Any]):
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    results = WorkflowToolOut(many=True)


class WorkflowToolView(ApiView):
    """Published workflows in the form in which models are shown tools."""

    read_scope = Scope.RUNS_READ
    lookup_field = "name"
    lookup_value_converter = "str"
    pagination_class = None

    @extend_schema(responses=WorkflowToolList)
    def list(self, request: Request) -> Response:
        """At most 500, by name."""
        self.query(Query)
        results = self.shown(WorkflowToolOut, workflow_tools(self.principal), many=True)
        return Response({"next": None, "previous": None, "results": results})

    @extend_schema(responses=WorkflowToolOut)
    def retrieve(self, request: Request, name: str) -> Response:
        found = workflow_tool(self.principal, name)
        if found is None:
            raise Http404
        return self.one(found, WorkflowToolOut)


class McpDoor(ApiView):
    """Judges who asks for `/mcp`, as any request; the program in front goes on from there."""

    read_scope = Scope.RUNS_READ
    schema = None

    def enter(self, request: Request) -> Response:
        headers = {OPEN_TO: str(self.principal.tenant_id)}
        return Response(status=status.HTTP_204_NO_CONTENT, headers=headers)
