from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from agents_app.selectors.prompt_templates import prompt_templates
from orchestrator.services import prompt_templates as service
from tenants.api.base import ApiView, no_content
from tenants.api.serializers import Query, Slug, Strict, Text
from tenants.permissions import HasScope, WritesOfWholeTenant
from tenants.roles import Scope


class PromptTemplateBody(Strict):
    name = Slug()
    description = Text(max_length=service.MAX_TEXT, required=False, allow_blank=True)
    system = Text(
        max_length=service.MAX_TEXT, required=False, allow_blank=True, help_text="Plain text."
    )
    task = Text(max_length=service.MAX_TEXT, help_text="A template with ${objective} in it.")
    models = serializers.DictField(
        required=False, help_text='By role, such as {"planner": {"provider": ..., "model": ...}}.'
    )


class PromptTemplateOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    description = serializers.CharField()
    system = serializers.CharField()
    task = serializers.CharField()
    models = serializers.DictField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class PromptTemplateView(ApiView):
    """What a model is told to turn an objective into work."""

    read_scope = Scope.WORKFLOWS_READ
    write_scope = Scope.WORKFLOWS_WRITE
    permission_classes = (HasScope, WritesOfWholeTenant)

    @extend_schema(responses=PromptTemplateOut(many=True))
    def list(self, request: Request) -> Response:
        self.query(Query)
        return self.page(prompt_templates(), PromptTemplateOut)

    @extend_schema(responses=PromptTemplateOut)
    def retrieve(self, request: Request, **_: Any) -> Response:
        return self.one(self.found(prompt_templates()), PromptTemplateOut)

    @extend_schema(request=PromptTemplateBody, responses={201: PromptTemplateOut})
    def create(self, request: Request) -> Response:
        """Add a set. One named `default` takes the place of the shipped one."""
        row = service.create_prompt_template(**self.body(PromptTemplateBody))
        return self.created(self.shown(PromptTemplateOut, row), at="prompt-templates-detail")

    @extend_schema(request=PromptTemplateBody(partial=True), responses=PromptTemplateOut)
    def partial_update(self, request: Request, **_: Any) -> Response:
        row = self.found(prompt_templates())
        changes = self.body(PromptTemplateBody, partial=True)
        return self.one(service.change_prompt_template(row, **changes), PromptTemplateOut)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, **_: Any) -> Response:
        service.delete_prompt_template(self.found(prompt_templates()))
        return no_content()
