"""The tenant's limits on calls to models, and how much of each is used."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from orchestrator.models import RateLimit
from orchestrator.models.limits import COUNTING_LABELS, PERIODS, UNIT_LABELS, LimitScope
from orchestrator.selectors.limits import Bucket, buckets_for, rate_limits_of
from orchestrator.selectors.workflows import workflow_for
from orchestrator.services import limits as service
from tenants.api.base import ApiView, no_content
from tenants.api.serializers import ProjectRef, Query, Strict, Text, Whole, reference
from tenants.models import Credential
from tenants.permissions import HasScope, WritesOfWholeTenant
from tenants.roles import Scope
from tenants.selectors.projects import named, project_for
from tenants.services.errors import NotFoundError

LIMIT_SCOPES = LimitScope.values
UNITS = list(UNIT_LABELS)
COUNTINGS = list(COUNTING_LABELS)
# Beyond it a number is no 64-bit integer; what is sensible the service says.
_WIDEST = 2**63 - 1


class RateLimitBody(Strict):
    scope = serializers.ChoiceField(LIMIT_SCOPES)
    project = reference(required=False, allow_null=True, help_text="Scope project: slug or id.")
    workflow = reference(required=False, allow_null=True, help_text="Scope workflow: name or id.")
    agent = Text(max_length=63, required=False, allow_blank=True, help_text="Scope agent: slug.")
    credential = reference(
        required=False, allow_null=True, help_text="Scope credential: name or id."
    )
    provider = Text(
        max_length=32, required=False, allow_blank=True, help_text="Only calls to it count."
    )
    model = Text(max_length=200, required=False, allow_blank=True, help_text="Only it counts.")
    unit = serializers.ChoiceField(UNITS)
    period = serializers.ChoiceField(
        PERIODS, required=False, allow_blank=True, help_text="None for `concurrent`."
    )
    counting = serializers.ChoiceField(
        COUNTINGS,
        required=False,
        help_text="`bucket` refills steadily; `window` begins with each full period (UTC); "
        "`calendar` counts days of a time zone.",
    )
    limit = Whole(min_value=-_WIDEST, max_value=_WIDEST, help_text="How much a period grants.")
    capacity = Whole(
        required=False,
        allow_null=True,
        min_value=-_WIDEST,
        max_value=_WIDEST,
        help_text="How much a bucket gathers while it is not used; null: the limit.",
    )
    time_zone = Text(max_length=64, required=False, allow_blank=True, help_text="Of `calendar`.")


class NamedOfLimit(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()


class RateLimitOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    scope = serializers.ChoiceField(LIMIT_SCOPES)
    project = ProjectRef(allow_null=True)
    workflow = NamedOfLimit(allow_null=True)
    agent = serializers.CharField()
    credential = NamedOfLimit(allow_null=True)
    provider = serializers.CharField()
    model = serializers.CharField()
    unit = serializers.ChoiceField(UNITS)
    period = serializers.CharField()
    counting = serializers.ChoiceField(COUNTINGS)
    limit = serializers.IntegerField()
    capacity = serializers.IntegerField(allow_null=True)
    time_zone = serializers.CharField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class WaiterOut(serializers.Serializer[Any]):
    agent_run = serializers.CharField(source="waiter")
    seconds = serializers.FloatField()


class UsageOut(serializers.Serializer[Any]):
    id = serializers.UUIDField(source="limit.row_id", help_text="The limit's.")
    set_by = serializers.SerializerMethodField(help_text="`tenant` or `operator`.")
    gate = serializers.CharField(help_text="What a waiting agent run names.")
    unit = serializers.ChoiceField(UNITS, source="tier.unit")
    limit = serializers.IntegerField(source="tier.limit")
    capacity = serializers.IntegerField(source="tier.most")
    used = serializers.FloatField(
        source="usage.used", allow_null=True, help_text="null: not known, or not used for long."
    )
    left = serializers.FloatField(source="usage.left", allow_null=True)
    refills_in_seconds = serializers.FloatField(
        source="usage.refills_seconds",
        allow_null=True,
        help_text="Until a bucket is full, or the next window begins.",
    )
    paused_seconds = serializers.FloatField(help_text="How long the provider wants no calls.")
    grants = serializers.IntegerField(source="usage.grants")
    denials = serializers.IntegerField(source="usage.denials")
    waited_seconds = serializers.FloatField(source="usage.waited_seconds")
    waiting = WaiterOut(many=True, help_text="Your own, in the order of their turn.")

    def get_set_by(self, bucket: Bucket) -> str:
        return "tenant" if bucket.limit.is_tenants else "operator"


class UsageList(serializers.Serializer[Any]):
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    known = serializers.BooleanField(help_text="Whether Redis could be asked.")
    results = UsageOut(many=True)


class RateLimitView(ApiView):
    """Limits on calls to models. They only ever tighten what the operator allows."""

    read_scope = Scope.WORKFLOWS_READ
    write_scope = Scope.ADMIN
    permission_classes = (HasScope, WritesOfWholeTenant)

    @extend_schema(responses=RateLimitOut(many=True))
    def list(self, request: Request) -> Response:
        self.query(Query)
        return self.page(rate_limits_of(self.principal), RateLimitOut)

    @extend_schema(responses=RateLimitOut)
    def retrieve(self, request: Request, **_: Any) -> Response:
        return self.one(self._found(), RateLimitOut)

    @extend_schema(request=RateLimitBody, responses={201: RateLimitOut})
    def create(self, request: Request) -> Response:
        """Set a limit. It counts in all processes within seconds."""
        row = service.create_rate_limit(**self._fields(self.body(RateLimitBody)))
        return self.created(self.shown(RateLimitOut, row), at="rate-limits-detail")

    @extend_schema(request=RateLimitBody(partial=True), responses=RateLimitOut)
    def partial_update(self, request: Request, **_: Any) -> Response:
        row = self._found()
        changes = self._fields(self.body(RateLimitBody, partial=True))
        return self.one(service.change_rate_limit(row, **changes), RateLimitOut)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, **_: Any) -> Response:
        service.delete_rate_limit(self._found())
        return no_content()

    @extend_schema(responses=UsageList)
    @action(detail=False, methods=["get"], pagination_class=None)
    def usage(self, request: Request) -> Response:
        """Every limit that can hold up your calls, the operator's included, as it stands now."""
        self.query(Query)
        buckets = buckets_for(self.principal)
        shown = self.shown(UsageOut, buckets, many=True)
        known = all(bucket.known for bucket in buckets)
        return Response({"next": None, "previous": None, "known": known, "results": shown})

    def _found(self) -> RateLimit:
        found: RateLimit = self.found(rate_limits_of(self.principal))
        return found

    def _fields(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Names of things as the things themselves. Raises NotFoundError at their field."""
        if asked.get("project") is not None:
            asked["project"] = project_for(self.principal, asked["project"])
        if asked.get("workflow") is not None:
            asked["workflow"] = workflow_for(self.principal, asked["workflow"], project=None)
        if asked.get("credential") is not None:
            asked["credential"] = _credential(asked["credential"])
        return asked


def _credential(reference: str) -> Credential:
    found = Credential.objects.filter(named(reference, by="name")).first()
    if found is None:
        raise NotFoundError("credential", reference, "/credential")
    return found
