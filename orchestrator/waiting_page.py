"""The admin's page of what waits, and why: of the tenant, and for operators of the whole cluster.

Outside `admin`, since the site itself has the page.
"""

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from orchestrator.selectors.cluster import cluster
from orchestrator.selectors.gates import budget_behind, limit_behind
from orchestrator.selectors.held_runs import SHOWN, HeldRun, held_runs
from orchestrator.selectors.waiting import Held, Standing, platform_standing, tenant_standing
from tenants.admin_base import may, principal_of
from tenants.roles import Scope


def waiting_page(request: HttpRequest, context: Mapping[str, Any]) -> HttpResponse:
    """`reason` and `name` choose the gate whose runs are listed."""
    principal = principal_of(request)
    if not may(request, Scope.RUNS_READ):
        raise PermissionDenied
    standing = tenant_standing(principal)
    chosen = _chosen(standing, request)
    runs: list[HeldRun] = []
    if chosen:
        runs = list(held_runs(principal, reason=chosen.reason, name=chosen.name))
    page = {"title": "Waiting", "standing": standing, "chosen": chosen}
    shown: dict[str, Any] = {"runs": runs, "more": max(0, chosen.runs - SHOWN) if chosen else 0}
    shown["is_over"] = chosen is None and "reason" in request.GET
    if chosen:
        facts = (chosen.reason, chosen.name)
        shown["limit_id"] = limit_behind(*facts, tenant_id=principal.tenant_id)
        shown["budget_id"] = budget_behind(*facts)
    if principal.is_operator:
        everywhere = platform_standing()
        shown |= {"everywhere": everywhere, "cluster": cluster(everywhere)}
    return TemplateResponse(request, "admin/muster/waiting.html", {**context, **page, **shown})


def _chosen(standing: Standing, request: HttpRequest) -> Held | None:
    """The gate that was asked for, as far as it still holds something; without one, the first."""
    asked = (request.GET.get("reason"), request.GET.get("name", ""))
    if asked[0] is None:
        return next(iter(standing.held), None)
    return next((each for each in standing.held if (each.reason, each.name) == asked), None)
