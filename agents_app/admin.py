from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from agents_app.admin_choices import ROLES, known_models, provider_choices, tool_names, type_choices
from agents_app.models import Agent
from agents_app.services.agents import AgentRefusedError, check_agent
from tenants.admin_base import TenantForm, TenantModelAdmin
from tenants.admin_fields import (
    JsonField,
    OpenChoiceField,
    PlainTextField,
    SuggestInput,
    TextArea,
    choice_field,
    offer,
)
from tenants.roles import Scope


class AgentForm(TenantForm):
    """Pickers offer what this installation has; what is stored but not known stays choosable."""

    unique = ("slug",)
    description = PlainTextField(empty_value="", widget=TextArea({"rows": 2}))
    system = PlainTextField(
        empty_value="",
        label="System prompt",
        help_text="Plain text: variables are not filled in here.",
    )
    prompt = PlainTextField(
        empty_value="",
        widget=TextArea({"rows": 6}),
        help_text="May use ${input.name} and ${steps.name.output}. A step may bring its own.",
    )
    tools = OpenChoiceField()
    parameters = JsonField(help_text='Such as {"temperature": 0.2, "max_output_tokens": 800}.')
    output_schema = JsonField(help_text="JSON Schema of the answer, if it is to be JSON.", rows=6)
    settings = JsonField(
        help_text='What the type needs beyond the fields above. Type tool: {"tool": "calculator",'
        ' "arguments": {"expression": "1 + 1"}}. Type aggregator: {"mode": "concat"}.'
        ' Type react: {"max_turns": 10}. Type evaluator: {"threshold": 0.8, "criteria": "..."}.'
        ' Type router: {"routes": ["refund", "answer"]}.'
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        agent: Agent = self.instance
        self.fields["type"] = choice_field(type_choices(), current=agent.type)
        self.fields["role"] = choice_field(
            ROLES,
            current=agent.role,
            empty="Guess it from the prompt",
            help_text="Chooses the model where none is set.",
        )
        self.fields["provider"] = choice_field(
            provider_choices(),
            current=agent.provider,
            empty="The workflow's default",
        )
        self.fields["model"].widget = SuggestInput(known_models())
        offer(self, "tools", tool_names(), chosen=agent.tools)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        for name in ("role", "provider"):
            cleaned[name] = cleaned.get(name) or ""
        for name in ("parameters", "settings"):
            cleaned[name] = cleaned.get(name) or {}
        return cleaned

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]  # the instance is filled in there
        if self.errors:
            return
        try:
            check_agent(self.instance)
        except AgentRefusedError as error:
            for problem in error.problems:
                field = problem.loc.split("/")[1]
                self.add_error(field if field in self.fields else None, problem.message)


@admin.register(Agent)
class AgentAdmin(TenantModelAdmin):
    view_scope = Scope.WORKFLOWS_READ
    edit_scope = Scope.WORKFLOWS_WRITE
    form = AgentForm
    list_display = ("slug", "name", "type", "role", "provider", "model", "updated_at")
    list_filter = ("type", "role", "provider")
    search_fields = ("slug", "name", "description")
    fieldsets = (
        (None, {"fields": (("name", "slug"), "description", ("type", "role"))}),
        ("Model", {"fields": (("provider", "model"), "parameters")}),
        ("What it is told", {"fields": ("system", "prompt")}),
        ("What it may use and gives", {"fields": ("tools", "output_schema")}),
        ("Advanced", {"fields": ("settings",), "classes": ("collapse",)}),
    )

    def get_prepopulated_fields(self, request: HttpRequest, obj: Any = None) -> dict[str, Any]:
        return {} if obj else {"slug": ("name",)}
