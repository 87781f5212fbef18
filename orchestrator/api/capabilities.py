"""What agents are good for, and how busy they are."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from orchestrator.selectors.capabilities import capabilities
from orchestrator.services.workflows import tenant_catalog
from tenants.api.base import ApiView
from tenants.api.serializers import Query, Text
from tenants.roles import Scope


class CapabilityQuery(Query):
    capability = Text(max_length=63, required=False, help_text="Only this one.")


class AbleAgentOut(serializers.Serializer[Any]):
    name = serializers.CharField(help_text="A saved agent's slug, or a custom agent's name.")
    type = serializers.CharField()
    saved = serializers.BooleanField(source="is_saved")
    busy = serializers.IntegerField(help_text="Agent runs that are queued or at work.")


class CapabilityOut(serializers.Serializer[Any]):
    name = serializers.CharField()
    agents = AbleAgentOut(many=True)


class CapabilityList(serializers.Serializer[Any]):
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    results = CapabilityOut(many=True)


class CapabilityView(ApiView):
    """What saved agents and allowed custom agents are good for, for steps that ask for it."""

    read_scope = Scope.WORKFLOWS_READ
    pagination_class = None

    @extend_schema(parameters=[CapabilityQuery], responses=CapabilityList)
    def list(self, request: Request) -> Response:
        """By name. How busy agents are is counted in all projects of the tenant."""
        wanted = self.query(CapabilityQuery).get("capability")
        found = [each for each in capabilities(tenant_catalog()) if wanted in (None, each.name)]
        results = self.shown(CapabilityOut, found, many=True)
        return Response({"next": None, "previous": None, "results": results})
