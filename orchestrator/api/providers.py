"""Model providers as the tenant can call them, and whether they work."""

from collections.abc import Callable
from typing import Any

from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from agents_app.providers.models import model_info
from orchestrator.execution.providers import provider_settings
from orchestrator.selectors.providers import KEYS, ProviderFacts, providers
from orchestrator.services import provider_checks as checks
from tenants.api.base import ApiView
from tenants.api.credentials import CheckOut
from tenants.api.serializers import Query
from tenants.idempotency import answered_before
from tenants.permissions import HasScope, WritesOfWholeTenant
from tenants.roles import Scope
from tenants.scope import tenant_scope
from tenants.selectors.credentials import credentials


class CredentialRef(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()


class ProviderOut(serializers.Serializer[Any]):
    name = serializers.CharField()
    usable = serializers.BooleanField()
    problem = serializers.CharField(allow_null=True, help_text="Why it cannot be called.")
    key = serializers.ChoiceField(KEYS, help_text="Whose key calls are made with.")
    credential = CredentialRef(allow_null=True)
    default_model = serializers.CharField()
    check = CheckOut(allow_null=True)


class ProviderList(serializers.Serializer[Any]):
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    results = ProviderOut(many=True)


class ModelOut(serializers.Serializer[Any]):
    provider = serializers.CharField()
    model = serializers.CharField()
    context_window = serializers.IntegerField(
        allow_null=True, help_text="Tokens that it reads at most; null where nobody states it."
    )
    parameters = serializers.ListField(
        child=serializers.CharField(), help_text="Those of a step that reach it."
    )
    takes_temperature = serializers.BooleanField()
    counts_tokens = serializers.BooleanField(
        help_text="Its provider counts the tokens of a prompt; else they are estimated."
    )


class ProviderView(ApiView):
    """Who answers models' calls, and with whose key."""

    read_scope = Scope.WORKFLOWS_READ
    lookup_field = "name"
    lookup_value_converter = "str"
    pagination_class = None

    @extend_schema(responses=ProviderList)
    def list(self, request: Request) -> Response:
        self.query(Query)
        results = self.shown(ProviderOut, providers(), many=True)
        return Response({"next": None, "previous": None, "results": results})

    @extend_schema(responses=ProviderOut)
    def retrieve(self, request: Request, name: str) -> Response:
        return self.one(_named(name), ProviderOut)

    @extend_schema(responses=ModelOut)
    def model(self, request: Request, name: str, model: str) -> Response:
        """What is known of a model, whether it exists at the provider or not."""
        if name not in provider_settings():
            raise Http404
        info = model_info(name, model)
        facts = {
            "provider": name,
            "model": model,
            "context_window": info.context_window,
            "parameters": sorted(info.takes),
            "takes_temperature": info.takes_temperature,
            "counts_tokens": info.counts_tokens,
        }
        return self.one(facts, ModelOut)


class CheckView(ApiView):
    """Asks a provider. Opens its scopes itself: nothing is held while the provider is asked."""

    write_scope = Scope.ADMIN
    permission_classes = (HasScope, WritesOfWholeTenant)

    @extend_schema(request=None, responses=CheckOut)
    def provider(self, request: Request, name: str) -> Response:
        """Ask a provider for one word, as the tenant's runs would.

        At most once in 10 seconds, else 429.
        """
        if name not in provider_settings():
            raise Http404
        return self._checked(request, lambda: checks.begin_provider_check(name))

    @extend_schema(request=None, responses=CheckOut)
    def credential(self, request: Request, **_: Any) -> Response:
        """Ask the provider of a credential for one word, with each of its secrets.

        At most once in 10 seconds, else 429.
        """
        return self._checked(
            request, lambda: checks.begin_credential_check(self.found(credentials()))
        )

    def _once(
        self, handler: Callable[..., Response], request: Request, *args: Any, **kwargs: Any
    ) -> Response:
        # Not in one transaction, as elsewhere; `_checked` does it in two.
        return handler(request, *args, **kwargs)

    def _checked(self, request: Request, begin: Callable[[], checks.Asking]) -> Response:
        with tenant_scope(self.principal.tenant_id):
            before = answered_before(request, principal=self.principal)
            if before is not None:
                return before
            asking = begin()
        checks.give_back_connection()
        found = checks.ask(asking)
        with tenant_scope(self.principal.tenant_id):
            keep = super()._once
            return keep(lambda _: self.one(checks.finish(asking, found), CheckOut), request)


def _named(name: str) -> ProviderFacts:
    for facts in providers():
        if facts.name == name:
            return facts
    raise Http404
