"""The pages of MCP servers: where they are, what they offer, and what of it agents may call."""

from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern
from django.utils.decorators import method_decorator
from django.views.decorators.http import require_POST

from agents_app.models import McpServer
from agents_app.selectors import mcp_servers as selectors
from agents_app.services import mcp_servers as service
from tenants.admin_base import TenantForm, TenantModelAdmin, principal_of
from tenants.admin_fields import OpenChoiceField, SuggestInput, choice_field, offer
from tenants.badges import state_badge
from tenants.kernel.errors import PlatformError
from tenants.middleware import opens_its_own_scope
from tenants.models import Credential
from tenants.roles import Scope
from tenants.scope import tenant_scope
from tenants.selectors.credentials import FOR_TOOLS

_BADGES = {
    selectors.DISABLED: ("pending", "\u25cb"),
    selectors.UNASKED: ("pending", "?"),
    selectors.FAILING: ("failed", "\u2715"),
    selectors.WORKING: ("completed", "\u2713"),
}


class McpServerForm(TenantForm):
    unique = ("name",)
    allowed_tools = OpenChoiceField(help_text="None chosen: all of them.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        server: McpServer = self.instance
        names = [tool.remote for tool in selectors.listed_tools(server)]
        offer(self, "allowed_tools", names, chosen=server.allowed_tools)
        keys = Credential.objects.filter(provider=FOR_TOOLS).values_list("name", flat=True)
        self.fields["credential"] = choice_field(
            {name: name for name in keys},
            current=server.credential,
            empty="None",
            help_text="A credential for tools: its secret is sent as a bearer token.",
        )
        if "url" in self.fields:
            self.fields["url"].label = "Address"
            self.fields["url"].help_text = "Streamable HTTP, such as https://example.com/mcp."
            self.fields["command"].widget = SuggestInput(selectors.commands_of_tenant())
            self.fields["command"].help_text = "Instead of an address: one of the operator's."

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        cleaned["credential"] = cleaned.get("credential") or ""
        return cleaned

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]  # the instance is filled in there
        if self.errors or not self.instance._state.adding:
            return
        try:
            service.check_place(self.instance)
        except PlatformError as error:
            self.add_error(getattr(error, "loc", "").strip("/") or None, str(error))


@admin.register(McpServer)
class McpServerAdmin(TenantModelAdmin):
    view_scope = Scope.WORKFLOWS_READ
    edit_scope = Scope.ADMIN
    form = McpServerForm
    list_display = ("name", "place", "state", "tool_count", "listed_at", "changed_at")
    list_filter = ("enabled",)
    search_fields = ("name", "description")
    change_form_outer_before_template = "admin/muster/mcp_server_state.html"

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        tools = ("allowed_tools",) if obj else ()
        settings = ("credential", "timeout_seconds", *tools, "enabled")
        return ("name", "description", "url", "command", *settings)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("name", "url", "command") if obj else ()

    def save_model(self, request: HttpRequest, obj: McpServer, form: Any, change: bool) -> None:
        if change:
            changes = {name: form.cleaned_data[name] for name in form.changed_data}
            service.change_server(McpServer.objects.get(pk=obj.pk), **changes)
            return
        super().save_model(request, obj, form, change)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        server = context.get("original")
        if server is not None:
            tools = selectors.listed_tools(server)
            context |= {
                "badge": self.state(server),
                "tools": [(tool, selectors.is_allowed(server, tool)) for tool in tools],
                "may_edit": self.may_edit(request),
            }
        page: HttpResponse = super().render_change_form(request, context, *args, **kwargs)
        return page

    def get_custom_pages(self) -> list[URLPattern]:
        return [self.page("refresh/", self.refresh)]

    @opens_its_own_scope
    @method_decorator(require_POST)
    def refresh(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        tenant_id = principal_of(request).tenant_id

        def begin() -> service.Asking:
            return service.begin(self.editable_or_404(request, object_id))

        try:
            _tell(request, service.asked(tenant_id, begin))
        except PlatformError as error:
            messages.warning(request, str(error))
        with tenant_scope(tenant_id):
            return HttpResponseRedirect(self.url_of(self.object_or_404(request, object_id)))

    @admin.display(description="Place")
    def place(self, server: McpServer) -> str:
        return server.url or f"command {server.command}"

    @admin.display(description="Tools")
    def tool_count(self, server: McpServer) -> int:
        return len(server.tools)

    @admin.display(description="State")
    def state(self, server: McpServer) -> str:
        state = selectors.state_of(server)
        colour, icon = _BADGES[state]
        return state_badge(colour, icon, state)


def _tell(request: HttpRequest, server: McpServer) -> None:
    if server.error:
        messages.error(request, f"It could not be asked: {server.error}")
    else:
        messages.success(request, f"It offers {len(server.tools)} tools.")
