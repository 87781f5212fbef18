"""The workflows that ship ready-made, and their way into a project."""

from typing import Any

from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from orchestrator.api.bundles import InstalledOut, told_installed
from orchestrator.api.plans import PriceOut, told_price
from orchestrator.core.blueprint import Blueprint
from orchestrator.core.mermaid import to_mermaid
from orchestrator.core.parsing import spec_from_mapping
from orchestrator.selectors.blueprints import blueprints
from orchestrator.services.blueprints import adopt_blueprint, blueprint_price
from orchestrator.services.bundles import ON_CONFLICT
from tenants.api.base import ApiView
from tenants.api.serializers import Query, Strict, Text
from tenants.permissions import HasScope, WritesOfWholeTenant
from tenants.roles import Scope
from tenants.selectors.projects import project_for, projects_of


class ModelChoice(Strict):
    """Whom all of it asks in place of its own model."""

    provider = Text(required=False, max_length=63)
    model = Text(required=False, max_length=100)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("provider" in attrs) != ("model" in attrs):
            raise ValidationError("Give `provider` and `model` together.")
        return attrs


class BlueprintQuery(ModelChoice, Query):
    """What it is priced with."""


class AdoptBody(ModelChoice):
    project = Text(required=False, help_text="Slug or id; not needed if there is one.")
    on_conflict = serializers.ChoiceField(
        list(ON_CONFLICT), default="refuse", help_text="As for `workflows/install`."
    )
    publish = serializers.BooleanField(default=False)


class BlueprintOut(serializers.Serializer[Any]):
    name = serializers.CharField()
    module = serializers.CharField()
    description = serializers.CharField()
    notes = serializers.CharField(help_text="Which models suit, and what to expect of small ones.")
    parts = serializers.ListField(child=serializers.CharField())


class BlueprintDetail(BlueprintOut):
    document = serializers.DictField(help_text="It as a bundle, as `workflows/install` takes it.")
    example = serializers.JSONField(help_text="An input that a run can be started with.")
    mermaid = serializers.CharField()
    price = PriceOut(allow_null=True)
    price_hindrance = serializers.CharField(allow_null=True)


class BlueprintList(serializers.Serializer[Any]):
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    results = BlueprintOut(many=True)


class BlueprintView(ApiView):
    """Workflows that are ready to be adopted."""

    read_scope = Scope.WORKFLOWS_READ
    write_scope = Scope.WORKFLOWS_WRITE
    lookup_field = "name"
    lookup_value_converter = "str"
    pagination_class = None

    @extend_schema(responses=BlueprintList)
    def list(self, request: Request) -> Response:
        self.query(Query)
        results = self.shown(BlueprintOut, blueprints().values(), many=True)
        return Response({"next": None, "previous": None, "results": results})

    @extend_schema(parameters=[BlueprintQuery], responses=BlueprintDetail)
    def retrieve(self, request: Request, name: str) -> Response:
        """One of them, and what a run of it would cost the tenant."""
        found, asked = _named(name), self.query(BlueprintQuery)
        project = projects_of(self.principal).first()
        price = told_price(blueprint_price(found, project=project, **asked)) if project else {}
        detail = {
            **self.shown(BlueprintOut, found),
            "document": found.document(**asked),
            "example": found.example,
            "mermaid": to_mermaid(spec_from_mapping(found.spec)),
            "price": None,
            "price_hindrance": "The tenant has no project yet.",
            **price,
        }
        return Response(self.shown(BlueprintDetail, detail))

    @extend_schema(request=AdoptBody, responses={201: InstalledOut})
    @action(detail=True, methods=["post"], permission_classes=[HasScope, WritesOfWholeTenant])
    def adopt(self, request: Request, name: str) -> Response:
        """Make it a draft of a project, with what it needs; all of it, or nothing."""
        found, asked = _named(name), self.body(AdoptBody)
        installed = adopt_blueprint(
            found,
            project=project_for(self.principal, asked.pop("project", None)),
            and_publish=asked.pop("publish"),
            **asked,
        )
        data = self.shown(InstalledOut, told_installed(installed))
        return self.created(data, at="workflows-detail", ids={"id": installed.workflow.id})


def _named(name: str) -> Blueprint:
    found = blueprints().get(name)
    if found is None:
        raise Http404
    return found
