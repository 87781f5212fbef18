"""What requests may hold, and how tenants' rows are shown.

Bodies are strict: a field that is not known, or a number where a text belongs, is an error.
"""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, ClassVar

from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail

from tenants.kernel.clock import now
from tenants.models import TenantStatus, slug_validator
from tenants.roles import Role, Scope

_ID_OR_NAME = 63
_DURATION = re.compile(r"(?=\d)(?:(\d{1,5})h)?(?:(\d{1,6})m)?(?:(\d{1,8})s)?", re.ASCII)


class Strict(serializers.Serializer[Any]):
    """Refuses what it does not know, together with everything else that is wrong."""

    def to_internal_value(self, data: Any) -> Any:
        unknown = self._unknown(data) if isinstance(data, Mapping) else {}
        try:
            values = super().to_internal_value(data)
        except serializers.ValidationError as error:
            raise serializers.ValidationError({**error.detail, **unknown}) from None  # type: ignore[dict-item]
        if unknown:
            raise serializers.ValidationError(unknown)
        return values

    def _unknown(self, data: Mapping[Any, Any]) -> dict[str, list[ErrorDetail]]:
        return {
            str(name): [self._refusal(str(name))]
            for name in data
            if name not in self.fields and not self.takes(str(name))
        }

    def takes(self, name: str) -> bool:
        """Whether a name outside `fields` is read in another way."""
        return False

    def _refusal(self, name: str) -> ErrorDetail:
        known = ", ".join(self.fields) or "none"
        return ErrorDetail(f"`{name}` is not known here; known are: {known}.", "unknown_field")


class Query(Strict):
    """The query string of a list. Pages are read by the pagination."""

    def takes(self, name: str) -> bool:
        return name in {"cursor", "limit"}


class WhoseQuery(Strict):
    """Read by `ApiView.asks_for_all_tenants`."""

    tenants = serializers.ChoiceField(
        ["own", "all"], required=False, default="own", help_text="`all` is for operators."
    )


class Text(serializers.CharField):
    """Text as it was written; not a number that could be read as one."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("trim_whitespace", False)
        super().__init__(**kwargs)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class Slug(Text):
    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("max_length", 63)
        super().__init__(validators=[slug_validator], **kwargs)


class Whole(serializers.IntegerField):
    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, bool) or not isinstance(data, int):
            self.fail("invalid")
        return super().to_internal_value(data)


class DurationText(Text):
    """A time span such as `30s` or `1h30m`, zero included."""

    default_error_messages: ClassVar = {
        "duration": "Write a duration such as 0s, 30s, 10m or 1h30m.",
        "too_long": "At most {longest}.",
    }

    def __init__(self, *, at_most_hours: int, **kwargs: Any) -> None:
        self.at_most_hours = at_most_hours
        super().__init__(**kwargs)

    def to_internal_value(self, data: Any) -> Any:
        match = _DURATION.fullmatch(super().to_internal_value(data))
        if match is None:
            self.fail("duration")
        hours, minutes, seconds = (int(part or 0) for part in match.groups())
        span = timedelta(hours=hours, minutes=minutes, seconds=seconds)
        if span > timedelta(hours=self.at_most_hours):
            self.fail("too_long", longest=f"{self.at_most_hours}h")
        return span


def reference(**kwargs: Any) -> Text:
    """A thing's id or its name."""
    return Text(max_length=_ID_OR_NAME, **kwargs)


class ProjectBody(Strict):
    slug = Slug()
    name = Text(max_length=200, required=False)
    description = Text(max_length=20_000, required=False, allow_blank=True)


class ProjectOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    slug = serializers.CharField()
    name = serializers.CharField()
    description = serializers.CharField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class ProjectRef(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    slug = serializers.CharField()


class TenantRef(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    slug = serializers.CharField()


class ApiKeyBody(Strict):
    name = Text(max_length=100)
    scopes = serializers.ListField(
        child=serializers.ChoiceField(Scope.choices), allow_empty=False, max_length=len(Scope)
    )
    project = reference(required=False, allow_null=True, help_text="Slug or id of one project.")
    expires_at = serializers.DateTimeField(required=False, allow_null=True)

    def validate_expires_at(self, value: Any) -> Any:
        if value is not None and value <= now():
            raise serializers.ValidationError("This time has passed already.", "past")
        return value


class ApiKeyOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    prefix = serializers.CharField(help_text="The key's first characters, to tell keys apart.")
    scopes = serializers.ListField(child=serializers.ChoiceField(Scope.choices))
    project = ProjectRef(allow_null=True)
    expires_at = serializers.DateTimeField(allow_null=True)
    made_by = serializers.UUIDField(
        source="made_by_id", allow_null=True, help_text="The key it was made with, if with one."
    )
    replaced_by = serializers.UUIDField(
        source="replaced_by_id", allow_null=True, help_text="The key it was rotated into."
    )
    revoked_at = serializers.DateTimeField(allow_null=True)
    revoked_reason = serializers.CharField()
    last_used_at = serializers.DateTimeField(
        allow_null=True, help_text="When a request last came with it, to the minute."
    )
    created_at = serializers.DateTimeField()


class NewApiKeyOut(ApiKeyOut):
    key = serializers.CharField(
        allow_null=True, help_text="The secret. Shown here once; null in a repeated answer."
    )


class RotateBody(Strict):
    grace = DurationText(
        required=False,
        at_most_hours=720,
        help_text="How long the old key still works: `1h` unless told; `0s` revokes it at once.",
    )


class RotatedApiKeyOut(NewApiKeyOut):
    replaces = ApiKeyOut(help_text="The old key. `last_used_at` tells whether it is still in use.")


class MemberBody(Strict):
    role = serializers.ChoiceField(Role.choices)


class MemberOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    username = serializers.CharField(source="user.username")
    email = serializers.CharField(source="user.email")
    role = serializers.ChoiceField(Role.choices)
    created_at = serializers.DateTimeField()


class TenantChange(Strict):
    name = Text(max_length=200, required=False)
    uses_environment_credentials = serializers.BooleanField(required=False)
    weight = serializers.IntegerField(
        required=False,
        min_value=1,
        max_value=100,
        help_text="Its share of the workers while others want them too.",
    )
    max_runs = serializers.IntegerField(
        required=False,
        allow_null=True,
        min_value=1,
        max_value=1_000_000,
        help_text="How many runs may be under way at a time; null: any number.",
    )


class TenantBody(TenantChange):
    slug = Slug()


class SuspendBody(Strict):
    reason = Text(max_length=500, required=False, allow_blank=True)


class TenantOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    slug = serializers.CharField()
    name = serializers.CharField()
    status = serializers.ChoiceField(TenantStatus.choices)
    suspended_reason = serializers.CharField()
    uses_environment_credentials = serializers.BooleanField()
    weight = serializers.IntegerField()
    max_runs = serializers.IntegerField(allow_null=True)
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class AuditQuery(Query):
    action = serializers.CharField(required=False, max_length=64)
    object_type = serializers.CharField(required=False, max_length=64)
    object_id = serializers.CharField(required=False, max_length=64)
    actor_kind = serializers.CharField(required=False, max_length=16)
    actor_id = serializers.CharField(required=False, max_length=64)


class AuditEntryOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    at = serializers.DateTimeField()
    action = serializers.CharField()
    object_type = serializers.CharField()
    object_id = serializers.CharField()
    object_label = serializers.CharField(
        help_text="What the object is called, where it or the entry still tells; else empty."
    )
    actor_kind = serializers.CharField()
    actor_id = serializers.CharField()
    actor_label = serializers.CharField()
    ip = serializers.CharField()
    request_id = serializers.CharField()
    before = serializers.JSONField(allow_null=True)
    after = serializers.JSONField(allow_null=True)
