from collections.abc import Mapping
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from orchestrator.api.serializers import WAITING_REASONS
from orchestrator.core.state import RunWait
from orchestrator.selectors.cluster import Cluster, cluster
from orchestrator.selectors.waiting import Standing, platform_standing, tenant_standing
from tenants.api.base import ApiView
from tenants.api.serializers import TenantRef, WhoseQuery
from tenants.kernel.clock import now
from tenants.models import Tenant
from tenants.roles import Scope


class HeldOut(serializers.Serializer[Any]):
    tenant = TenantRef()
    reason = serializers.ChoiceField([*WAITING_REASONS, *map(str, RunWait)])
    gate = serializers.CharField(help_text="What holds them, such as a limit or a budget by name.")
    agent_runs = serializers.IntegerField(help_text="0 where runs wait as a whole.")
    runs = serializers.IntegerField()
    since = serializers.DateTimeField(help_text="When the one began that has waited longest.")
    until = serializers.DateTimeField(
        allow_null=True, help_text="About when the first goes on by itself, if that is known."
    )
    longest_run = serializers.UUIDField(source="longest_run_id", help_text="Whose that one is.")


class WorkerLoadOut(serializers.Serializer[Any]):
    name = serializers.CharField()
    slots = serializers.IntegerField()
    busy = serializers.IntegerField(help_text="Of its slots; 0 where it is idle.")
    handled = serializers.IntegerField(help_text="Messages, since it was first there.")
    started_at = serializers.DateTimeField()
    seen_at = serializers.DateTimeField()


class TenantDemandOut(serializers.Serializer[Any]):
    tenant = TenantRef()
    at_work = serializers.IntegerField()
    queued = serializers.IntegerField()
    lined_up = serializers.IntegerField(help_text="Due, beyond the tenant's share of the workers.")
    share = serializers.IntegerField(
        allow_null=True, help_text="How many may be queued or at work; null if none is dealt."
    )


class ClusterOut(serializers.Serializer[Any]):
    slots = serializers.IntegerField()
    busy = serializers.IntegerField()
    free = serializers.IntegerField()
    queued = serializers.DictField(
        child=serializers.IntegerField(), help_text="By queue: published and not begun."
    )
    workers = WorkerLoadOut(many=True)
    tenants = TenantDemandOut(many=True)


class WaitingOut(serializers.Serializer[Any]):
    """`tenant` is null where all tenants are shown; only then there is a `cluster`."""

    tenant = TenantRef(allow_null=True)
    at = serializers.DateTimeField()
    agent_runs = serializers.IntegerField(help_text="Waiting, whatever for.")
    at_work = serializers.IntegerField()
    gates = HeldOut(many=True, help_text="Those that hold most come first.")
    cluster = ClusterOut(allow_null=True)


class WaitingView(ApiView):
    """What waits, and which gates hold it."""

    read_scope = Scope.RUNS_READ

    @extend_schema(parameters=[WhoseQuery], responses=WaitingOut)
    def retrieve(self, request: Request) -> Response:
        """Of a tenant, or of one project for a key narrowed to it; for operators of all tenants."""
        if self.asks_for_all_tenants(self.query(WhoseQuery)):
            standing = platform_standing()
            return Response(self.shown(WaitingOut, _told(standing, cluster=cluster(standing))))
        tenant = Tenant.objects.get(id=self.principal.tenant_id)
        standing = tenant_standing(self.principal)
        return Response(self.shown(WaitingOut, _told(standing, tenant=tenant)))


def _told(
    standing: Standing, *, tenant: Tenant | None = None, cluster: Cluster | None = None
) -> Mapping[str, Any]:
    return {
        "tenant": tenant,
        "at": now(),
        "agent_runs": standing.waiting,
        "at_work": standing.working,
        "gates": standing.held,
        "cluster": cluster,
    }
