"""Prompt templates for objectives."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from agents_app.core.prompt_templates import DEFAULT
from agents_app.models import PromptTemplate
from orchestrator.services.prompt_templates import VARIABLES, prompt_template_problems
from tenants.admin_base import TenantForm, TenantModelAdmin
from tenants.admin_fields import JsonField, PlainTextField, TextArea
from tenants.roles import Scope


class PromptTemplateForm(TenantForm):
    unique = ("name",)
    description = PlainTextField(empty_value="", widget=TextArea({"rows": 2}))
    system = PlainTextField(
        empty_value="",
        label="System message",
        help_text="Plain text: variables are not filled in here.",
    )
    task = PlainTextField(
        empty_value="",
        label="Task prompt",
        widget=TextArea({"rows": 10}),
        help_text=f"Has ${{objective}} in it, and may have {', '.join(VARIABLES[1:])} so too.",
    )
    models = JsonField(
        help_text='By role: {"planner": {"provider": "anthropic", "model": "NAME"}}.', rows=4
    )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        cleaned["models"] = cleaned.get("models") or {}
        return cleaned

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]  # the instance is filled in there
        if self.errors:
            return
        for problem in prompt_template_problems(self.instance):
            field = problem.loc.split("/")[1]
            self.add_error(field if field in self.fields else None, problem.message)


@admin.register(PromptTemplate)
class PromptTemplateAdmin(TenantModelAdmin):
    """Sets of a tenant's own; a new one begins as the shipped one."""

    view_scope = Scope.WORKFLOWS_READ
    edit_scope = Scope.WORKFLOWS_WRITE
    form = PromptTemplateForm
    list_display = ("name", "description", "updated_at")
    search_fields = ("name", "description", "task")
    fields = ("name", "description", "system", "task", "models")

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"system": DEFAULT.system, "task": DEFAULT.task}
