"""The admin's page of agent types: what there is, what is broken, and what the tenant allows."""

from collections.abc import Mapping
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.http import require_POST

from agents_app.selectors.agent_grants import agent_kinds
from agents_app.services.agent_grants import allow_agent
from tenants.admin_base import may, principal_of
from tenants.roles import Scope


def agent_types_page(request: HttpRequest, context: Mapping[str, Any]) -> HttpResponse:
    principal_of(request)
    if not may(request, Scope.WORKFLOWS_READ):
        raise PermissionDenied
    kinds = agent_kinds()
    return TemplateResponse(
        request,
        "admin/muster/agent_types.html",
        {
            **context,
            "title": "Agent types",
            "kinds": [kind for kind in kinds if not kind.fault],
            "broken": [kind for kind in kinds if kind.fault],
            "may_edit": may(request, Scope.ADMIN),
        },
    )


@require_POST
def allow_agent_type(request: HttpRequest, name: str) -> HttpResponse:
    principal_of(request)
    if not may(request, Scope.ADMIN):
        raise PermissionDenied
    if name not in {kind.name for kind in agent_kinds()}:
        raise Http404
    allowed = request.POST.get("allowed") == "yes"
    allow_agent(name, allowed=allowed)
    messages.success(request, f"{name} is {'allowed' if allowed else 'not allowed any more'}.")
    return HttpResponseRedirect(reverse("admin:agent_types"))
