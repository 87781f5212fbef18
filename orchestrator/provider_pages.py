"""The admin's page of providers: which of them the tenant can call, and with whose key.

Outside `admin`, since the site itself has the page.
"""

from collections.abc import Callable, Mapping
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.http import require_POST

from orchestrator.execution.providers import provider_settings
from orchestrator.selectors.providers import providers
from orchestrator.services import provider_checks as checks
from tenants.admin_base import may, principal_of
from tenants.middleware import opens_its_own_scope
from tenants.roles import Scope
from tenants.services.errors import CheckTooSoonError, UncheckableError


def providers_page(request: HttpRequest, context: Mapping[str, Any]) -> HttpResponse:
    principal_of(request)
    if not may(request, Scope.WORKFLOWS_READ):
        raise PermissionDenied
    return TemplateResponse(
        request,
        "admin/muster/providers.html",
        {
            **context,
            "title": "Providers",
            "providers": providers(),
            "may_edit": may(request, Scope.ADMIN),
        },
    )


@opens_its_own_scope
@require_POST
def check_provider(request: HttpRequest, name: str) -> HttpResponse:
    if name not in provider_settings():
        raise Http404
    principal_of(request)
    if not may(request, Scope.ADMIN):
        raise PermissionDenied
    tell_of_check(request, lambda: checks.begin_provider_check(name))
    return HttpResponseRedirect(reverse("admin:providers"))


def tell_of_check(request: HttpRequest, begin: Callable[[], checks.Asking]) -> None:
    """Check outside any scope, and say what came of it on the next page."""
    try:
        check = checks.checked(principal_of(request).tenant_id, begin)
    except (CheckTooSoonError, UncheckableError) as error:
        messages.warning(request, str(error))
        return
    if check.ok:
        messages.success(request, f"It works: {check.detail} ({check.latency_ms} ms).")
    else:
        messages.error(request, f"It does not work: {check.detail}")
