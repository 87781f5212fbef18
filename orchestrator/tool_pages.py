"""The admin's pages of tools: which of them agents of the tenant may use, and how they are set up.

Outside `admin`, since the site itself has the pages.
"""

import json
from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from agents_app.selectors.tool_grants import GrantedTool, granted_tools
from agents_app.services.tool_grants import ToolSettingsRefusedError, change_grant
from tenants.admin_base import may, principal_of
from tenants.admin_fields import JsonField
from tenants.roles import Scope


class ToolForm(forms.Form):
    allowed = forms.BooleanField(required=False, label="Agents of this tenant may use it")
    settings = JsonField(rows=10, label="Settings (JSON)")

    def __init__(self, *args: Any, tool: GrantedTool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if tool.settings_schema is None:
            del self.fields["settings"]


def tools_page(request: HttpRequest, context: Mapping[str, Any]) -> HttpResponse:
    principal_of(request)
    if not may(request, Scope.WORKFLOWS_READ):
        raise PermissionDenied
    shown = {"title": "Tools", "tools": granted_tools(), "may_edit": may(request, Scope.ADMIN)}
    return TemplateResponse(request, "admin/muster/tools.html", {**context, **shown})


def tool_page(request: HttpRequest, context: Mapping[str, Any], name: str) -> HttpResponse:
    principal_of(request)
    if not may(request, Scope.ADMIN):
        raise PermissionDenied
    tool = next((each for each in granted_tools() if each.name == name), None)
    if tool is None:
        raise Http404
    initial = {"allowed": tool.allowed, "settings": tool.settings}
    form = ToolForm(request.POST or None, initial=initial, tool=tool)
    if request.method == "POST" and form.is_valid() and _stored(tool, form):
        messages.success(request, f"{name} is stored. Workers know within seconds.")
        return HttpResponseRedirect(reverse("admin:tools"))
    shown = {
        "title": name,
        "tool": tool,
        "form": form,
        "arguments": _readable(tool.parameters),
        "settings_schema": _readable(tool.settings_schema),
    }
    return TemplateResponse(request, "admin/muster/tool.html", {**context, **shown})


def _stored(tool: GrantedTool, form: ToolForm) -> bool:
    asked = form.cleaned_data
    settings = (asked["settings"] or {}) if "settings" in asked else None
    try:
        change_grant(tool.tool, allowed=asked["allowed"], settings=settings)
    except ToolSettingsRefusedError as error:
        for problem in error.problems:
            place = problem.loc.removeprefix("/settings").strip("/").replace("/", ".")
            form.add_error("settings", f"{place}: {problem.message}" if place else problem.message)
        return False
    return True


def _readable(schema: Mapping[str, Any] | None) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) if schema else ""
