from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.postgres.forms import SimpleArrayField
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.text import Truncator
from unfold.widgets import UnfoldAdminTextInputWidget

from agents_app import admin_mcp as admin_mcp  # its pages register themselves
from agents_app.admin_choices import ROLES, known_models, provider_choices, tool_names, type_choices
from agents_app.core.custom import MAX_CAPABILITIES
from agents_app.models import Agent, MemoryEntry
from agents_app.selectors.agents import capabilities_of_agents
from agents_app.selectors.memory import lasting
from agents_app.services.agents import AgentRefusedError, check_agent
from tenants.admin_base import TenantForm, TenantModelAdmin, shown_json
from tenants.admin_fields import (
    JsonField,
    OpenChoiceField,
    PlainTextField,
    SuggestInput,
    TextArea,
    choice_field,
    offer,
)
from tenants.models import slug_validator
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
    capabilities = SimpleArrayField(
        forms.CharField(max_length=63, validators=[slug_validator]),
        required=False,
        widget=UnfoldAdminTextInputWidget(),
        max_length=MAX_CAPABILITIES,
        help_text="What it is good for, such as: translation, german. Steps may ask for one.",
    )
    tools = OpenChoiceField()
    parameters = JsonField(help_text='Such as {"temperature": 0.2, "max_output_tokens": 800}.')
    output_schema = JsonField(help_text="JSON Schema of the answer, if it is to be JSON.", rows=6)
    settings = JsonField(
        help_text='What the type needs beyond the fields above. Type tool: {"tool": "calculator",'
        ' "arguments": {"expression": "1 + 1"}}. Type aggregator: {"mode": "concat"}.'
        ' Type react: {"max_turns": 10, "memory": {"max_tokens": 20000}}.'
        ' Type evaluator: {"threshold": 0.8, "criteria": "..."}.'
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
        cleaned["capabilities"] = list(dict.fromkeys(cleaned.get("capabilities") or ()))
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


class WithCapability(admin.SimpleListFilter):
    title = "capability"
    parameter_name = "capability"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in capabilities_of_agents()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Agent]) -> QuerySet[Agent]:
        wanted = self.value()
        return queryset.filter(capabilities__contains=[wanted]) if wanted else queryset


@admin.register(Agent)
class AgentAdmin(TenantModelAdmin):
    view_scope = Scope.WORKFLOWS_READ
    edit_scope = Scope.WORKFLOWS_WRITE
    form = AgentForm
    list_display = ("slug", "name", "type", "role", "can", "provider", "model", "updated_at")
    list_filter = ("type", "role", "provider", WithCapability)
    search_fields = ("slug", "name", "description", "capabilities")
    fieldsets = (
        (None, {"fields": (("name", "slug"), "description", ("type", "role"), "capabilities")}),
        ("Model", {"fields": (("provider", "model"), "parameters")}),
        ("What it is told", {"fields": ("system", "prompt")}),
        ("What it may use and gives", {"fields": ("tools", "output_schema")}),
        ("Advanced", {"fields": ("settings",), "classes": ("collapse",)}),
    )

    def get_prepopulated_fields(self, request: HttpRequest, obj: Any = None) -> dict[str, Any]:
        return {} if obj else {"slug": ("name",)}

    @admin.display(description="Capabilities")
    def can(self, agent: Agent) -> str:
        return ", ".join(agent.capabilities)


class SetAside(admin.SimpleListFilter):
    title = "state"
    parameter_name = "set_aside"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Set aside"), ("no", "Readable")]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[MemoryEntry]
    ) -> QuerySet[MemoryEntry]:
        match self.value():
            case "yes":
                return queryset.exclude(fault="")
            case "no":
                return queryset.filter(fault="")
        return queryset


@admin.register(MemoryEntry)
class MemoryEntryAdmin(TenantModelAdmin):
    """What agents remember: people look at it and delete it, and agents write it."""

    view_scope = Scope.RUNS_READ
    edit_scope = Scope.WORKFLOWS_WRITE
    list_display = ("key", "scope", "owner", "kind", "beginning", "updated_at", "expires_at")
    list_filter = ("scope", "kind", SetAside, "owner")
    search_fields = ("key", "text")
    fields = (
        ("key", "version"),
        ("scope", "owner"),
        ("kind", "run_id"),
        "shown_content",
        ("updated_at", "expires_at"),
        "fault",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[MemoryEntry]:
        return lasting(super().get_queryset(request))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description="Content")
    def beginning(self, entry: MemoryEntry) -> str:
        return Truncator(entry.text).chars(80)

    @admin.display(description="Content")
    def shown_content(self, entry: MemoryEntry) -> str:
        return shown_json(entry.content)
