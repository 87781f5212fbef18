"""The menu beside every admin page, in the order in which people need things."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse

from orchestrator.selectors.approvals import inbox_size
from tenants.admin_base import may, principal_or_none
from tenants.principals import Principal
from tenants.roles import Scope
from tenants.scope import has_tenant_scope

_OPERATORS = "operators"
_GROUPS: tuple[tuple[str, tuple[tuple[str, str, str, str], ...]], ...] = (
    (
        "",
        (
            ("Home", "home", "index", ""),
            ("Runs", "play_circle", "orchestrator_run_changelist", Scope.RUNS_READ),
            ("Batches", "stacks", "orchestrator_runbatch_changelist", Scope.RUNS_READ),
            ("Waiting", "hourglass_top", "waiting", Scope.RUNS_READ),
            ("Approvals", "approval", "orchestrator_approval_changelist", Scope.RUNS_READ),
            ("Workflows", "account_tree", "orchestrator_workflow_changelist", Scope.WORKFLOWS_READ),
            (
                *("Blueprints", "dashboard_customize"),
                *("orchestrator_workflow_blueprints", Scope.WORKFLOWS_READ),
            ),
            ("Agents", "smart_toy", "agents_app_agent_changelist", Scope.WORKFLOWS_READ),
            ("Agent types", "extension", "agent_types", Scope.WORKFLOWS_READ),
            (
                *("Prompt templates", "edit_note"),
                *("agents_app_prompttemplate_changelist", Scope.WORKFLOWS_READ),
            ),
            ("Memory", "neurology", "agents_app_memoryentry_changelist", Scope.RUNS_READ),
            ("Tools", "build", "tools", Scope.WORKFLOWS_READ),
            ("Limits", "speed", "orchestrator_ratelimit_changelist", Scope.WORKFLOWS_READ),
        ),
    ),
    (
        "Costs",
        (
            ("Costs", "bar_chart", "costs_costentry_report", Scope.COSTS_READ),
            ("Budgets", "savings", "costs_budget_changelist", Scope.COSTS_READ),
            ("Alerts", "notifications", "costs_costalert_changelist", Scope.COSTS_READ),
            ("Cost entries", "receipt_long", "costs_costentry_changelist", Scope.COSTS_READ),
            ("Tenant prices", "sell", "costs_tenantprice_changelist", Scope.COSTS_READ),
        ),
    ),
    (
        "Settings",
        (
            ("Projects", "folder", "tenants_project_changelist", Scope.WORKFLOWS_READ),
            ("Members", "group", "tenants_membership_changelist", Scope.ADMIN),
            ("API keys", "key", "tenants_apikey_changelist", Scope.ADMIN),
            ("Providers", "cloud", "providers", Scope.WORKFLOWS_READ),
            ("MCP servers", "hub", "agents_app_mcpserver_changelist", Scope.WORKFLOWS_READ),
            (
                "Model calls",
                "forum",
                "orchestrator_callsettings_changelist",
                Scope.WORKFLOWS_READ,
            ),
            ("Credentials", "vpn_key", "tenants_credential_changelist", Scope.ADMIN),
            ("Audit entries", "history", "tenants_auditentry_changelist", Scope.ADMIN),
        ),
    ),
    (
        "Platform",
        (
            ("Tenants", "domain", "tenants_tenant_changelist", _OPERATORS),
            ("Users", "person", "tenants_user_changelist", _OPERATORS),
            ("Platform prices", "payments", "costs_platformprice_changelist", _OPERATORS),
            ("Ledger checks", "fact_check", "costs_ledgercheck_changelist", _OPERATORS),
            ("Platform limits", "speed", "orchestrator_platformratelimit_changelist", _OPERATORS),
        ),
    ),
)

# What waits for the caller behind an entry.
_COUNTS: Final[Mapping[str, Callable[[Principal], int]]] = {
    "orchestrator_approval_changelist": inbox_size,
}


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """What this caller may see; a group without any of it is left out by the template."""
    groups: list[dict[str, Any]] = [
        {"title": title, "separator": bool(title), "items": _items(request, entries)}
        for title, entries in _GROUPS
    ]
    _mark_where_we_are(request, [item for group in groups for item in group["items"]])
    return [group for group in groups if group["items"]]


def stylesheet(request: HttpRequest) -> str:
    return static("muster/muster.css")


def favicon(request: HttpRequest) -> str:
    return static("muster/favicon.svg")


def _items(
    request: HttpRequest, entries: tuple[tuple[str, str, str, str], ...]
) -> list[dict[str, Any]]:
    return [
        {
            "title": title,
            "icon": icon,
            "link": reverse(f"admin:{page}"),
            "count": _count(request, page),
        }
        for title, icon, page, needed in entries
        if _may_see(request, needed)
    ]


def _mark_where_we_are(request: HttpRequest, items: list[dict[str, Any]]) -> None:
    """One entry at most: the page of the costs lies below that of their entries."""
    home = reverse("admin:index")
    above = [i["link"] for i in items if request.path.startswith(i["link"]) and i["link"] != home]
    here = max(above, key=len, default=None if request.path != home else home)
    for item in items:
        item["active"] = item["link"] == here


def _count(request: HttpRequest, page: str) -> int:
    principal = principal_or_none(request)
    counted = _COUNTS.get(page)
    return counted(principal) if counted and principal and has_tenant_scope() else 0


def _may_see(request: HttpRequest, needed: str) -> bool:
    if needed == _OPERATORS:
        return bool(request.user.is_superuser)
    return not needed or may(request, needed)
