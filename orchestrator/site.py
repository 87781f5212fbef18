"""The admin: who may come in, which tenant the pages are about, and the way between tenants."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
)
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.http import url_has_allowed_host_and_scheme
from unfold.forms import AuthenticationForm
from unfold.sites import UnfoldAdminSite

from orchestrator.agent_pages import agent_types_page, allow_agent_type
from orchestrator.provider_pages import check_provider, providers_page
from orchestrator.selectors.home import home
from orchestrator.selectors.status import platform_status, tenant_status
from orchestrator.tool_pages import tool_page, tools_page
from orchestrator.waiting_page import waiting_page
from tenants.admin_base import principal_or_none
from tenants.middleware import SESSION_TENANT, opens_its_own_scope
from tenants.models import User
from tenants.principals import principal_of_user, tenants_of
from tenants.scope import acting_as, tenant_scope
from tenants.services.notes import note

_LATELY = timedelta(hours=24)


class MemberLogin(AuthenticationForm):  # type: ignore[misc]
    """Whoever has an account may log in; what they see follows from their memberships."""

    def confirm_login_allowed(self, user: AbstractBaseUser) -> None:
        if not user.is_active:
            raise ValidationError("This account is closed.", code="inactive")


class MusterSite(UnfoldAdminSite):  # type: ignore[misc]
    login_form = MemberLogin
    index_title = "Home"
    empty_value_display = "-"
    enable_nav_sidebar = True

    def __init__(self, name: str = "admin") -> None:
        super().__init__(name)
        # One row at a time, so that each deletion says what goes with it.
        self.disable_action("delete_selected")

    def has_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_authenticated and request.user.is_active)

    def extra_urls(self) -> list[URLPattern]:
        return [
            path("tenant/", self.switch_tenant, name="switch_tenant"),
            path("waiting/", self.admin_view(self.waiting), name="waiting"),
            path("providers/", self.admin_view(self.providers), name="providers"),
            path("agent-types/", self.admin_view(self.agent_types), name="agent_types"),
            path(
                "agent-types/<str:name>/allow/",
                self.admin_view(allow_agent_type),
                name="agent_type_allow",
            ),
            path(
                "providers/<str:name>/check/",
                self.admin_view(check_provider),
                name="provider_check",
            ),
            path("tools/", self.admin_view(self.tools), name="tools"),
            path("tools/<str:name>/", self.admin_view(self.tool), name="tool"),
        ]

    def providers(self, request: HttpRequest) -> HttpResponse:
        return providers_page(request, self.each_context(request))

    def agent_types(self, request: HttpRequest) -> HttpResponse:
        return agent_types_page(request, self.each_context(request))

    def tools(self, request: HttpRequest) -> HttpResponse:
        return tools_page(request, self.each_context(request))

    def tool(self, request: HttpRequest, name: str) -> HttpResponse:
        return tool_page(request, self.each_context(request), name)

    def waiting(self, request: HttpRequest) -> HttpResponse:
        return waiting_page(request, self.each_context(request))

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        context: dict[str, Any] = super().each_context(request)
        principal = principal_or_none(request)
        choices = tenants_of(request.user) if isinstance(request.user, User) else []
        here = next((c for c in choices if principal and c.tenant_id == principal.tenant_id), None)
        return {**context, "tenant_choices": choices, "tenant_here": here, "principal": principal}

    def index(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        principal = principal_or_none(request)
        if principal is None:
            return self._without_tenant(request)
        context = {
            "home": home(principal),
            "status": tenant_status(principal, _LATELY),
            "platform": platform_status(_LATELY) if principal.is_operator else None,
        }
        page: HttpResponse = super().index(request, {**context, **(extra_context or {})})
        return page

    def _without_tenant(self, request: HttpRequest) -> HttpResponse:
        context = {**self.each_context(request), "title": "No tenant yet"}
        return TemplateResponse(request, "admin/muster/no_tenant.html", context)

    @opens_its_own_scope
    def switch_tenant(self, request: HttpRequest) -> HttpResponse:
        """Choose the tenant that the pages are about. An operator's choice is audited."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not isinstance(request.user, User) or not request.user.is_active:
            return HttpResponseRedirect(reverse("admin:login"))
        wanted = _uuid_or_404(request.POST.get("tenant", ""))
        principal = principal_of_user(request.user, wanted=str(wanted))
        if principal is None or principal.tenant_id != wanted:
            raise Http404
        if principal.is_operator:
            ip = str(request.META.get("REMOTE_ADDR", ""))
            with acting_as(principal.actor(ip=ip, request_id="")), tenant_scope(wanted):
                note("tenant.entered", object_type="tenant", object_id=wanted)
        request.session[SESSION_TENANT] = str(wanted)
        return HttpResponseRedirect(_safe_next(request))


def _uuid_or_404(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Http404 from None


def _safe_next(request: HttpRequest) -> str:
    # A page of one row of the old tenant would only be 404 in the new one, so lists at most.
    wanted = request.POST.get("next", "")
    home_url = reverse("admin:index")
    is_ours = url_has_allowed_host_and_scheme(wanted, allowed_hosts=None)
    is_list = wanted.startswith(home_url) and len(wanted.removeprefix(home_url).split("/")) <= 3
    return wanted if is_ours and is_list else home_url
