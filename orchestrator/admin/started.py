from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from orchestrator.templatetags.muster import moment
from tenants.admin_base import TenantModelAdmin


class StartedAdmin(TenantModelAdmin):
    """Lists what people start elsewhere: runs and batches, with when and by whom."""

    @admin.display(description="Created", ordering="created_at")
    def created(self, started: Any) -> str:
        return moment(started.created_at)

    @admin.display(description="Started by")
    def by(self, started: Any) -> str:
        return str(started.started_by.get("label") or started.started_by.get("kind") or "")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False
