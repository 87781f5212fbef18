"""What a tenant has kept of its calls to models."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from orchestrator.models.calls import MOST_DAYS, Keeps
from orchestrator.selectors.call_settings import call_settings
from orchestrator.services.call_settings import change_call_settings
from tenants.api.base import ApiView
from tenants.api.serializers import Strict
from tenants.permissions import HasScope, WritesOfWholeTenant
from tenants.roles import Scope


class CallSettingsBody(Strict):
    caches_answers = serializers.BooleanField(
        required=False, help_text="Steps that say `cache` may take answers again."
    )
    keeps = serializers.ChoiceField(
        Keeps.choices,
        required=False,
        help_text="What is left of prompts, answers and tool calls once their run has ended.",
    )
    keep_days = serializers.IntegerField(
        required=False,
        allow_null=True,
        min_value=1,
        max_value=MOST_DAYS,
        help_text="After so many days only figures are left; null: as long as the run.",
    )


class CallSettingsOut(serializers.Serializer[Any]):
    tenant = serializers.UUIDField(source="tenant_id")
    caches_answers = serializers.BooleanField()
    keeps = serializers.ChoiceField(Keeps.choices)
    keep_days = serializers.IntegerField(allow_null=True)


class CallSettingsView(ApiView):
    read_scope = Scope.WORKFLOWS_READ
    write_scope = Scope.ADMIN
    permission_classes = (HasScope, WritesOfWholeTenant)

    @extend_schema(responses=CallSettingsOut)
    def retrieve(self, request: Request) -> Response:
        """What the tenant has kept of its calls to models."""
        return self.one(call_settings(), CallSettingsOut)

    @extend_schema(request=CallSettingsBody, responses=CallSettingsOut)
    def partial_update(self, request: Request) -> Response:
        changed = change_call_settings(**self.body(CallSettingsBody, partial=True))
        return self.one(changed, CallSettingsOut)
