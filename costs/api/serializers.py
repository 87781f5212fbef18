from typing import Any
from zoneinfo import ZoneInfo

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from costs.core.money import format_usd, nano_from_text
from costs.core.periods import zone_or_none
from costs.models import CostKind
from tenants.api.serializers import Query, Text


@extend_schema_field(OpenApiTypes.STR)
class Usd(serializers.Field[int, Any, str, Any]):
    """Nano-USD, shown as decimal text in USD."""

    def to_representation(self, value: int) -> str:
        return format_usd(value)


@extend_schema_field({"type": "string", "pattern": r"^\d{1,9}(\.\d{1,9})?$", "example": "0.50"})
class UsdText(Text):
    """An amount in USD as decimal text, such as `"0.50"`; gives nano-USD."""

    def to_internal_value(self, data: Any) -> Any:
        text = super().to_internal_value(data)
        try:
            return nano_from_text(text)
        except ValueError as error:
            raise serializers.ValidationError(f"{error}.", "usd") from None


def zone_of(name: str) -> ZoneInfo:
    """For fields that name a time zone. Raises ValidationError."""
    zone = zone_or_none(name)
    if zone is None:
        raise serializers.ValidationError(
            f"{name!r} is no time zone; write one such as Europe/Berlin.", "time_zone"
        )
    return zone


class CostQuery(Query):
    kind = serializers.ChoiceField(CostKind.choices, required=False)
    run = serializers.UUIDField(required=False, source="run_id")
    workflow = serializers.UUIDField(required=False, source="workflow_id")
    provider = serializers.CharField(required=False, max_length=32)
    model = serializers.CharField(required=False, max_length=200)

    def get_fields(self) -> dict[str, Any]:
        # `from` cannot be written as a name.
        times = {
            "from": serializers.DateTimeField(required=False, source="since"),
            "to": serializers.DateTimeField(required=False, source="until"),
        }
        return {**super().get_fields(), **times}


class CostEntryOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    at = serializers.DateTimeField()
    held_at = serializers.DateTimeField(help_text="When the call was set down; reports go by it.")
    kind = serializers.ChoiceField(CostKind.choices)
    cost_usd = Usd(source="amount_nano")
    estimated = serializers.BooleanField()
    call_id = serializers.UUIDField()
    project_id = serializers.UUIDField()
    workflow_id = serializers.UUIDField()
    workflow = serializers.CharField(source="workflow_name")
    run_id = serializers.UUIDField()
    agent_run_id = serializers.UUIDField()
    step = serializers.CharField()
    attempt = serializers.IntegerField()
    agent = serializers.CharField()
    role = serializers.CharField()
    provider = serializers.CharField()
    model = serializers.CharField()
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    cached_tokens = serializers.IntegerField()
    cache_write_tokens = serializers.IntegerField()
    reasoning_tokens = serializers.IntegerField()
    cache_write_1h_tokens = serializers.IntegerField()
    unit_prices = serializers.DictField()
