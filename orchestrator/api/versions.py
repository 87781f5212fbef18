"""What requests about versions may hold, and how their differences are shown."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from orchestrator.core.diff import Kind
from orchestrator.selectors.versions import DRAFT, VersionDiff
from tenants.api.serializers import Strict

_NUMBER = re.compile(r"[1-9][0-9]{0,9}", re.ASCII)
_MAX_NUMBER = 2**31 - 1


@extend_schema_field({"type": "string", "pattern": "^(draft|[1-9][0-9]{0,9})$"})
class VersionReference(serializers.Field[int | None, Any, str, Any]):
    """The number of a version, or `draft`, which is None."""

    default_error_messages: ClassVar = {"invalid": "Write the number of a version, or `draft`."}

    def to_internal_value(self, data: Any) -> int | None:
        if data == DRAFT:
            return None
        if not _NUMBER.fullmatch(str(data)) or int(data) > _MAX_NUMBER:
            self.fail("invalid")
        return int(data)


class DiffQuery(Strict):
    def get_fields(self) -> dict[str, Any]:
        # `from` cannot be written as a name.
        current = "A version's number or `draft`; left out, the current version."
        sides = {
            "from": VersionReference(required=False, source="before", help_text=current),
            "to": VersionReference(
                required=False, source="after", help_text="The same; left out, the draft."
            ),
        }
        return {**super().get_fields(), **sides}


class RestoreBody(Strict):
    publish = serializers.BooleanField(
        required=False, default=False, help_text="Publish it at once, as a new version."
    )


class ChangeOut(serializers.Serializer[Any]):
    loc = serializers.CharField(help_text="JSON pointer into the spec, steps by name.")
    change = serializers.ChoiceField([str(kind) for kind in Kind])
    before = serializers.JSONField(allow_null=True)
    after = serializers.JSONField(allow_null=True)


class StepChangeOut(serializers.Serializer[Any]):
    name = serializers.CharField()
    change = serializers.ChoiceField([str(kind) for kind in Kind])
    fields = ChangeOut(many=True)  # type: ignore[assignment]  # the name of a field


class DiffOut(serializers.Serializer[Any]):
    """`from` and `to` are numbers of versions, or `draft`."""

    is_empty = serializers.BooleanField()
    workflow = ChangeOut(many=True, help_text="What is not a step's.")
    steps = StepChangeOut(many=True, help_text="A step renamed is one removed and one added.")
    moved = serializers.ListField(
        child=serializers.CharField(), help_text="Steps that changed their place."
    )
    text = serializers.CharField(help_text="The same as a unified diff of the YAML.")

    def get_fields(self) -> dict[str, Any]:
        sides = {name: serializers.CharField() for name in ("from", "to")}
        return {**sides, **super().get_fields()}


def told(found: VersionDiff) -> Mapping[str, Any]:
    return {
        "from": _name(found.before),
        "to": _name(found.after),
        "is_empty": found.changes.is_empty,
        "workflow": found.changes.workflow,
        "steps": found.changes.steps,
        "moved": found.changes.moved,
        "text": found.text,
    }


def _name(number: int | None) -> str:
    return DRAFT if number is None else str(number)
