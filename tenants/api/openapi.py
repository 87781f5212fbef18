"""What the OpenAPI document says of every call, so that no view has to repeat it."""

from typing import Any, Literal

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers

from tenants.idempotency import HEADER

PROBLEM = "application/problem+json"


class ProblemError(serializers.Serializer[Any]):
    loc = serializers.CharField(help_text="JSON pointer into the body; ?name for a parameter.")
    code = serializers.CharField()
    message = serializers.CharField()


class Problem(serializers.Serializer[Any]):
    """What every answer from 400 up holds."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    code = serializers.CharField(help_text="Stable: programs decide by it.")
    detail = serializers.CharField()
    request_id = serializers.CharField()
    errors = ProblemError(  # type: ignore[assignment]  # the name of a field
        many=True, help_text="Everything that is wrong, all at once."
    )


class ApiSchema(AutoSchema):
    """Adds the problem document to every operation, and Idempotency-Key to every POST."""

    def get_override_parameters(self) -> list[Any]:
        if self.method != "POST":
            return []
        return [
            OpenApiParameter(
                HEADER,
                str,
                OpenApiParameter.HEADER,
                description="A repeat with the same key answers the same and does nothing again.",
            )
        ]

    def _get_response_bodies(
        self, direction: Literal["request", "response"] = "response"
    ) -> dict[str, Any]:
        bodies: dict[str, Any] = super()._get_response_bodies(direction)
        problem = self._get_response_for_code(Problem, "default", [PROBLEM])  # type: ignore[no-untyped-call]
        return {**bodies, "default": problem}


class BearerKey(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "tenants.authentication.PrincipalAuthentication"
    name = ["apiKey", "session"]  # noqa: RUF012  the base class declares it so

    def get_security_definition(self, auto_schema: AutoSchema) -> list[dict[str, str]]:
        return [
            {"type": "http", "scheme": "bearer", "description": "An API key: `mk_...`"},
            {"type": "apiKey", "in": "cookie", "name": "sessionid"},
        ]

    def get_security_requirement(self, auto_schema: AutoSchema) -> list[dict[str, list[Any]]]:
        return [{name: []} for name in self.name]  # either will do
