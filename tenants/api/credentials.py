"""Tenants' own keys for providers. What is secret goes in and never comes out."""

from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from tenants.api.base import ApiView, no_content
from tenants.api.serializers import Query, Strict, Text
from tenants.models import Credential
from tenants.permissions import HasScope, OfWholeTenant
from tenants.roles import Scope
from tenants.selectors.credentials import STATES, credentials, last_check, state_of
from tenants.services import credentials as service


class ModelsByUse(Strict):
    """Models by role, for steps that name none, and by complexity, for `model: auto`."""

    orchestrator = Text(max_length=200, required=False)
    planner = Text(max_length=200, required=False)
    executor = Text(max_length=200, required=False)
    reviewer = Text(max_length=200, required=False)
    simple = Text(max_length=200, required=False)
    moderate = Text(max_length=200, required=False)
    complex = Text(max_length=200, required=False)


class CredentialChange(Strict):
    name = Text(max_length=100, required=False)
    default_model = Text(max_length=200, required=False, allow_blank=True)
    models = ModelsByUse(required=False)
    enabled = serializers.BooleanField(required=False)


class Secret(Text):
    """A provider's key; the service says what is wrong with one."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(write_only=True, allow_blank=True, **kwargs)


class CredentialBody(CredentialChange):
    name = Text(max_length=100)
    provider = Text(
        max_length=32,
        help_text="openai, anthropic, xai or compatible; tool: for tools, any number of them.",
    )
    secret = Secret(help_text="The provider's key. Never shown again.")
    base_url = Text(
        max_length=500,
        required=False,
        allow_blank=True,
        help_text="Provider `compatible` alone: where it answers. It cannot be changed later.",
    )


class NewSecretBody(Strict):
    secret = Secret(help_text="The newer key. The one before serves too, until it is retired.")


class RetireBody(Strict):
    which = serializers.ChoiceField(
        ["previous", "newest"],
        required=False,
        help_text="Which of the two ends: `previous` unless told.",
    )


class CheckOut(serializers.Serializer[Any]):
    started_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(
        allow_null=True, help_text="Null while the provider is being asked."
    )
    ok = serializers.BooleanField(help_text="It answered in the right form.")
    reachable = serializers.BooleanField(help_text="Somebody answered.")
    detail = serializers.CharField()
    model = serializers.CharField()
    latency_ms = serializers.IntegerField()
    limits = serializers.DictField(
        child=serializers.CharField(),
        help_text="What the provider says is left of its limits, by the header that says it.",
    )


class CredentialOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    provider = serializers.CharField()
    base_url = serializers.CharField()
    hint = serializers.CharField(help_text="The end of the secret; empty if that is short.")
    previous_hint = serializers.SerializerMethodField(
        help_text="The end of the secret before, while it still serves; else null."
    )
    default_model = serializers.CharField()
    models = serializers.DictField(source="role_models", child=serializers.CharField())
    enabled = serializers.BooleanField()
    state = serializers.SerializerMethodField()
    rotated_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True, help_text="To the minute.")
    refused_at = serializers.DateTimeField(
        allow_null=True, help_text="When the provider last refused the newest secret."
    )
    check = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()

    def get_previous_hint(self, row: Credential) -> str | None:
        return row.previous_hint if row.previous_secret else None

    @extend_schema_field(serializers.ChoiceField(STATES))
    def get_state(self, row: Credential) -> str:
        return state_of(row)

    @extend_schema_field(CheckOut(allow_null=True))
    def get_check(self, row: Credential) -> Any:
        check = last_check(row)
        return None if check is None else CheckOut(check).data


class CredentialView(ApiView):
    """The tenant's own keys for model providers, which go before the operator's."""

    read_scope = Scope.ADMIN
    write_scope = Scope.ADMIN
    permission_classes = (HasScope, OfWholeTenant)

    @extend_schema(responses=CredentialOut(many=True))
    def list(self, request: Request) -> Response:
        self.query(Query)
        return self.page(credentials(), CredentialOut)

    @extend_schema(responses=CredentialOut)
    def retrieve(self, request: Request, **_: Any) -> Response:
        return self.one(self.found(credentials()), CredentialOut)

    @extend_schema(request=CredentialBody, responses={201: CredentialOut})
    def create(self, request: Request) -> Response:
        """Keep a key. While it is enabled, the tenant's calls to the provider use it.

        One credential for each provider can be enabled.
        """
        made = service.create_credential(**self.body(CredentialBody))
        return self.created(self.shown(CredentialOut, made), at="credentials-detail")

    @extend_schema(request=CredentialChange, responses=CredentialOut)
    def partial_update(self, request: Request, **_: Any) -> Response:
        """Change what is not secret. Provider and address stay as they are."""
        credential = self.found(credentials())
        changed = service.change_credential(credential, **self.body(CredentialChange))
        return self.one(changed, CredentialOut)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, **_: Any) -> Response:
        service.delete_credential(self.found(credentials()))
        return no_content()

    @extend_schema(request=NewSecretBody, responses=CredentialOut)
    @action(detail=True, methods=["post"])
    def rotate(self, request: Request, **_: Any) -> Response:
        """Add a newer secret. The one before serves too, until it is retired."""
        credential = self.found(credentials())
        return self.one(
            service.rotate_credential(credential, **self.body(NewSecretBody)), CredentialOut
        )

    @extend_schema(request=RetireBody, responses=CredentialOut)
    @action(detail=True, methods=["post"])
    def retire(self, request: Request, **_: Any) -> Response:
        """End one of two secrets."""
        credential = self.found(credentials())
        newest = self.body(RetireBody).get("which") == "newest"
        return self.one(service.retire_secret(credential, newest=newest), CredentialOut)
