"""Sums over the ledger: what was spent on what, and how the month will end."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from costs.api.serializers import Usd, zone_of
from costs.core.periods import day_start, month_start
from costs.models import CostEntry
from costs.selectors.outlook import Outlook, outlook
from costs.selectors.report_table import csv_of, summary_json
from costs.selectors.reports import (
    Group,
    lines_of_all,
    lines_of_tenant,
    summary,
)
from tenants.api.base import ApiView
from tenants.api.renderers import TextRenderer
from tenants.api.serializers import TenantRef, WhoseQuery
from tenants.kernel.clock import now
from tenants.models import Tenant
from tenants.roles import Scope

MOST_GROUPS: Final = 3
_LONGEST = timedelta(days=3660)


class ZoneQuery(WhoseQuery):
    tz = serializers.CharField(
        required=False, default="UTC", max_length=64, help_text="Such as Europe/Berlin."
    )

    def validate_tz(self, value: str) -> ZoneInfo:
        return zone_of(value)


@extend_schema_field(OpenApiTypes.STR)
class Moment(serializers.Field[Any, Any, Any, Any]):
    """A time; a date stands for its first moment, and what names no zone is in the report's."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=False, **kwargs)

    def to_internal_value(self, data: Any) -> date | datetime:
        try:
            return date.fromisoformat(data) if len(data) == 10 else datetime.fromisoformat(data)
        except ValueError:
            raise serializers.ValidationError(
                "Write a date or a time, such as 2026-11-01 or 2026-11-01T09:00:00Z.", "invalid"
            ) from None


class SummaryQuery(ZoneQuery):
    group_by = serializers.CharField(
        required=False,
        default=Group.DAY,
        max_length=100,
        help_text=f"Up to {MOST_GROUPS} of {', '.join(Group)}, such as day,model.",
    )

    def get_fields(self) -> dict[str, Any]:
        # `from` cannot be written as a name.
        times = {
            "from": Moment(help_text="A date or a time; the month's first day unless told."),
            "to": Moment(help_text="Exclusive; tomorrow unless told."),
        }
        return {**super().get_fields(), **times}

    def takes(self, name: str) -> bool:
        return name == "format"

    def validate_group_by(self, value: str) -> tuple[Group, ...]:
        names = list(dict.fromkeys(part.strip() for part in value.split(",")))
        unknown = [name for name in names if name not in set(Group)]
        if unknown:
            raise serializers.ValidationError(
                f"{unknown[0]!r} is no group; known are: {', '.join(Group)}.", "invalid_choice"
            )
        if len(names) > MOST_GROUPS:
            raise serializers.ValidationError(
                f"At most {MOST_GROUPS} groups at a time.", "max_length"
            )
        return tuple(Group(name) for name in names)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        zone: ZoneInfo = attrs["tz"]
        today = now().astimezone(zone).date()
        attrs["from"] = _moment(attrs.get("from", month_start(today)), zone)
        attrs["to"] = _moment(attrs.get("to", today + timedelta(days=1)), zone)
        if attrs["from"] >= attrs["to"]:
            raise serializers.ValidationError({"to": "It has to be after `from`."}, "range")
        if attrs["to"] - attrs["from"] > _LONGEST:
            raise serializers.ValidationError({"from": "At most ten years at a time."}, "range")
        return attrs


def _moment(given: date | datetime, zone: ZoneInfo) -> datetime:
    """In UTC: differences of times that share a zone would be those of its clock."""
    try:
        if not isinstance(given, datetime):
            return day_start(given, zone).astimezone(UTC)
        return (given if given.tzinfo else given.replace(tzinfo=zone)).astimezone(UTC)
    except (OverflowError, ValueError):
        raise serializers.ValidationError({"from": "This time cannot be counted."}) from None


class CostTokensOut(serializers.Serializer[Any]):
    input = serializers.IntegerField(help_text="With what was cached and written to a cache.")
    cached = serializers.IntegerField()
    cache_write = serializers.IntegerField()
    output = serializers.IntegerField(help_text="With reasoning.")
    reasoning = serializers.IntegerField()


class FiguresOut(serializers.Serializer[Any]):
    cost_usd = Usd(source="cost")
    estimated_usd = Usd(source="estimated", help_text="Of the cost: by estimated token counts.")
    in_doubt_usd = Usd(source="in_doubt", help_text="Of the cost: charged without an answer.")
    corrections_usd = Usd(source="corrections", help_text="Of the cost: by late answers.")
    calls = serializers.IntegerField()
    failed_calls = serializers.IntegerField()
    tokens = CostTokensOut(source="*")


class SummaryRowOut(FiguresOut):
    """Only what the rows are grouped by is there."""

    day = serializers.DateField(required=False)
    tenant_id = serializers.UUIDField(required=False)
    tenant = serializers.CharField(required=False)
    project_id = serializers.UUIDField(required=False)
    project = serializers.CharField(required=False)
    workflow_id = serializers.UUIDField(required=False)
    workflow = serializers.CharField(required=False)
    agent = serializers.CharField(required=False)
    provider = serializers.CharField(required=False)
    model = serializers.CharField(required=False)
    role = serializers.CharField(required=False)


class SummaryOut(serializers.Serializer[Any]):
    """`tenant` is null where all tenants are summed up."""

    tenant = TenantRef(allow_null=True)
    tz = serializers.CharField()
    group_by = serializers.ListField(child=serializers.ChoiceField(list(Group)))
    rows = SummaryRowOut(many=True)
    total = FiguresOut()

    def get_fields(self) -> dict[str, Any]:
        times = {"from": serializers.DateTimeField(), "to": serializers.DateTimeField()}
        return {**super().get_fields(), **times}


class UnusualOut(serializers.Serializer[Any]):
    spent_usd = Usd(source="spent_nano", help_text="Since midnight.")
    usual_usd = Usd(
        source="usual_nano", allow_null=True, help_text="The median by this time of day."
    )
    unusual_from_usd = Usd(source="from_nano", allow_null=True)
    is_unusual = serializers.BooleanField()
    days = serializers.IntegerField(help_text="How many days it is compared with.")


class ForecastOut(serializers.Serializer[Any]):
    """Null where there are too few days to tell."""

    tenant = TenantRef(allow_null=True)
    tz = serializers.CharField()
    month = serializers.CharField()
    spent_usd = Usd(source="forecast.spent_nano")
    forecast_usd = Usd(source="forecast.nano", allow_null=True)
    days = serializers.IntegerField(source="forecast.days", help_text="How many days it rests on.")
    today = UnusualOut(source="comparison")


class CsvRenderer(TextRenderer):
    """The rows of a summary, a line each; money as exact decimal text."""

    media_type = "text/csv"
    format = "csv"

    def text_of(self, data: Any) -> str:
        return csv_of(data)


class SummaryView(ApiView):
    """The ledger summed up, for the caller's tenant, its project, or all tenants."""

    read_scope = Scope.COSTS_READ

    @extend_schema(
        parameters=[SummaryQuery],
        responses={
            (200, "application/json"): SummaryOut,
            (200, "text/csv"): OpenApiTypes.STR,
        },
    )
    def summary(self, request: Request) -> Response:
        """By day, unless told. Lines belong to the time at which their call was held."""
        asked = self.query(SummaryQuery)
        found = summary(
            self._lines(asked),
            since=asked["from"],
            until=asked["to"],
            zone=asked["tz"],
            groups=asked["group_by"],
        )
        if request.accepted_renderer.format == CsvRenderer.format:
            name = f"costs-{'-'.join(found.groups)}.csv"
            headers = {"Content-Disposition": f'attachment; filename="{name}"'}
            return Response(found, headers=headers)
        return Response(summary_json(found, tenant=self._tenant(asked)))

    @extend_schema(parameters=[ZoneQuery], responses=ForecastOut)
    def forecast(self, request: Request) -> Response:
        """What this month will have cost, and whether today is out of the ordinary."""
        asked = self.query(ZoneQuery)
        found = outlook(self._lines(asked), moment=now(), zone=asked["tz"])
        return Response(self.shown(ForecastOut, _foretold(found, asked["tz"], self._tenant(asked))))

    def get_renderers(self) -> Any:
        return [JSONRenderer(), *([CsvRenderer()] if self.action == "summary" else [])]

    def _lines(self, asked: Mapping[str, Any]) -> QuerySet[CostEntry]:
        if self.asks_for_all_tenants(asked):
            return lines_of_all()
        return lines_of_tenant(self.principal.project_id)

    def _tenant(self, asked: Mapping[str, Any]) -> Tenant | None:
        is_own = asked["tenants"] == "own"
        return Tenant.objects.get(id=self.principal.tenant_id) if is_own else None


def _foretold(found: Outlook, zone: ZoneInfo, tenant: Tenant | None) -> dict[str, Any]:
    return {
        "tenant": tenant,
        "tz": zone.key,
        "month": f"{found.month:%Y-%m}",
        "forecast": found.forecast,
        "comparison": found.comparison,
    }
