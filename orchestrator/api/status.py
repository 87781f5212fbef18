from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from costs.core.money import format_usd
from orchestrator.api.serializers import TokensOut
from orchestrator.core.values import Duration
from orchestrator.selectors.status import Status, platform_status, tenant_status
from tenants.api.base import ApiView
from tenants.api.serializers import TenantRef, WhoseQuery
from tenants.roles import Scope

DEFAULT_WINDOW = "24h"


class StatusQuery(WhoseQuery):
    since = serializers.CharField(
        required=False,
        default=DEFAULT_WINDOW,
        max_length=32,
        help_text="How far back, such as 10m or 24h.",
    )

    def validate_since(self, value: str) -> timedelta:
        try:
            return timedelta(seconds=Duration.parse(value).seconds)
        except ValueError as error:
            raise serializers.ValidationError(str(error), "duration") from error


class WorkflowCountsOut(serializers.Serializer[Any]):
    started = serializers.IntegerField()
    completed = serializers.IntegerField()
    partially_completed = serializers.IntegerField()
    failed = serializers.IntegerField()
    cancelled = serializers.IntegerField()
    budget_exceeded = serializers.IntegerField()
    live = serializers.IntegerField(help_text="Not ended now, whenever they started.")


class AgentCountsOut(serializers.Serializer[Any]):
    executed = serializers.IntegerField(help_text="Completed or failed.")
    failed = serializers.IntegerField()
    average_seconds = serializers.FloatField(
        allow_null=True, help_text="From first start to end, of those executed."
    )


class StatusOut(serializers.Serializer[Any]):
    """`tenant` is null where all tenants are summed up."""

    tenant = TenantRef(allow_null=True)
    since = serializers.DateTimeField()
    until = serializers.DateTimeField()
    workflows = WorkflowCountsOut()
    agents = AgentCountsOut()
    api_calls = serializers.IntegerField(help_text="Calls to models that have ended.")
    tokens = TokensOut()
    cost_usd = serializers.CharField()


class StatusView(ApiView):
    """What was done lately: runs, agents, calls to models, tokens, cost."""

    read_scope = Scope.RUNS_READ

    @extend_schema(parameters=[StatusQuery], responses=StatusOut)
    def retrieve(self, request: Request) -> Response:
        """A tenant's figures, or one project's for a key narrowed to it."""
        asked = self.query(StatusQuery)
        if self.asks_for_all_tenants(asked):
            status = platform_status(asked["since"])
        else:
            status = tenant_status(self.principal, asked["since"])
        return Response(self.shown(StatusOut, _told(status)))


def _told(status: Status) -> Mapping[str, Any]:
    return {
        "tenant": status.tenant,
        "since": status.since,
        "until": status.until,
        "workflows": {"started": status.started, **status.ended, "live": status.live},
        "agents": {
            "executed": status.agents_executed,
            "failed": status.agents_failed,
            "average_seconds": status.average_agent_seconds,
        },
        "api_calls": status.api_calls,
        "tokens": status.tokens,
        "cost_usd": format_usd(status.cost_nano),
    }
