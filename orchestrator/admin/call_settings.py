from typing import Any

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest

from orchestrator.models import CallSettings
from orchestrator.services.call_settings import save_call_settings
from tenants.admin_base import TenantForm, TenantModelAdmin
from tenants.roles import Scope


@admin.register(CallSettings)
class CallSettingsAdmin(TenantModelAdmin):
    """One row: what the tenant has kept of its calls to models."""

    view_scope = Scope.WORKFLOWS_READ
    edit_scope = Scope.ADMIN
    form = TenantForm
    list_display = ("__str__", "caches_answers", "keeps", "keep_days", "updated_at")
    fields = ("caches_answers", "keeps", "keep_days")

    def save_model(self, request: HttpRequest, obj: CallSettings, form: Any, change: bool) -> None:
        save_call_settings(obj)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return super().has_add_permission(request) and not CallSettings.objects.exists()

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False
