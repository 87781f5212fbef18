"""The admin's pages of tools: which of them agents of the tenant may use, and how they are set up.

Outside `admin`, since the site itself has the pages.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from agents_app.core.approving import CallApproval
from agents_app.selectors.tool_grants import GrantedTool, granted_tools
from agents_app.services.tool_grants import Approval, ToolSettingsRefusedError, change_grant
from tenants.admin_base import may, principal_of
from tenants.admin_fields import JsonField
from tenants.roles import Scope

_ASK: Final = [
    ("tool", "As the tool says of itself"),
    ("always", "A person has to agree to each call"),
    ("never", "Nobody is asked"),
]
_ROLES: Final = [("owner", "Owners"), ("admin", "Admins"), ("editor", "Editors")]
_ON_EXPIRE: Final = [("reject", "The call counts as rejected"), ("fail", "The step fails")]


class ToolForm(forms.Form):
    allowed = forms.BooleanField(required=False, label="Agents of this tenant may use it")
    ask = forms.ChoiceField(choices=_ASK, required=False, label="Approval")
    roles = forms.MultipleChoiceField(
        choices=_ROLES,
        required=False,
        label="Who may decide",
        widget=forms.CheckboxSelectMultiple,
    )
    exclude_requester = forms.BooleanField(required=False, label="Not whoever started the run")
    expires_hours = forms.FloatField(
        required=False,
        min_value=1 / 60,
        max_value=366 * 24,
        label="Asked for so many hours",
        help_text="Empty: for as long as the run goes on.",
    )
    on_expire = forms.ChoiceField(
        choices=_ON_EXPIRE, required=False, label="If nobody decides in time"
    )
    settings = JsonField(rows=10, label="Settings (JSON)")

    def __init__(self, *args: Any, tool: GrantedTool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if tool.settings_schema is None:
            del self.fields["settings"]

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if cleaned.get("ask") == "always" and not cleaned.get("roles"):
            self.add_error("roles", "Somebody has to be able to decide.")
        return cleaned

    @property
    def approval(self) -> Approval:
        match self.cleaned_data["ask"]:
            case "always":
                return self._asked_for
            case "never":
                return {"required": False}
            case "tool":
                return None
        return "unchanged"

    @property
    def _asked_for(self) -> dict[str, Any]:
        asked = self.cleaned_data
        hours = asked["expires_hours"]
        return {
            "roles": asked["roles"],
            "exclude_requester": asked["exclude_requester"],
            "expires_seconds": None if hours is None else round(hours * 3600),
            "on_expire": asked["on_expire"] or "reject",
        }


def _asked_now(tool: GrantedTool) -> dict[str, Any]:
    """What the form begins with."""
    given = tool.chosen or {}
    shown = tool.tool.approval or CallApproval()
    seconds = shown.expires_seconds
    return {
        "ask": "tool" if tool.chosen is None else "always" if tool.tool.approval else "never",
        "roles": given.get("roles") or list(shown.roles),
        "exclude_requester": shown.exclude_requester,
        "expires_hours": None if seconds is None else round(seconds / 3600, 2),
        "on_expire": shown.on_expire,
    }


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
    initial = {"allowed": tool.allowed, "settings": tool.settings, **_asked_now(tool)}
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
        change_grant(tool.tool, allowed=asked["allowed"], settings=settings, approval=form.approval)
    except ToolSettingsRefusedError as error:
        for problem in error.problems:
            place = problem.loc.removeprefix("/settings").strip("/").replace("/", ".")
            form.add_error("settings", f"{place}: {problem.message}" if place else problem.message)
        return False
    return True


def _readable(schema: Mapping[str, Any] | None) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) if schema else ""
