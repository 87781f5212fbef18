from datetime import datetime

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.urls import NoReverseMatch, URLPattern, path, reverse
from django.utils.html import format_html

from costs.admin.report import report_page
from costs.core.money import format_usd
from costs.models import CostEntry
from tenants.admin_base import TenantModelAdmin, shown_json
from tenants.roles import Scope


@admin.register(CostEntry)
class CostEntryAdmin(TenantModelAdmin):
    """The ledger. Read-only: a correction is a new line."""

    view_scope = Scope.COSTS_READ
    list_display = (
        "when",
        "amount",
        "kind",
        "workflow_name",
        "step",
        "provider",
        "model",
        "tokens_in",
        "tokens_out",
    )
    list_filter = ("kind", "provider", "model", "workflow_name", "role", "estimated")
    search_fields = ("workflow_name", "step", "model", "run_id")
    date_hierarchy = "held_at"
    fields = (
        ("held_at", "at"),
        ("amount", "kind", "estimated"),
        ("workflow_name", "step", "agent", "role"),
        ("provider", "model"),
        ("input_tokens", "output_tokens"),
        ("cached_tokens", "cache_write_tokens", "cache_write_1h_tokens", "reasoning_tokens"),
        "run_link",
        ("call_id", "attempt"),
        "prices",
    )

    def get_custom_pages(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.report)
        return [path("report/", view, name="costs_costentry_report")]

    def report(self, request: HttpRequest) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        return report_page(request, self.admin_site.each_context(request))

    @admin.display(description="When (UTC)", ordering="held_at")
    def when(self, entry: CostEntry) -> datetime:
        return entry.held_at

    @admin.display(description="Amount (USD)", ordering="amount_nano")
    def amount(self, entry: CostEntry) -> str:
        return format_usd(entry.amount_nano)

    @admin.display(description="Input tokens", ordering="input_tokens")
    def tokens_in(self, entry: CostEntry) -> str:
        return f"{entry.input_tokens:,}"

    @admin.display(description="Output tokens", ordering="output_tokens")
    def tokens_out(self, entry: CostEntry) -> str:
        return f"{entry.output_tokens:,}"

    @admin.display(description="Run")
    def run_link(self, entry: CostEntry) -> str:
        try:
            url = reverse("admin:orchestrator_run_change", args=[entry.run_id])
        except NoReverseMatch:  # the ledger stands alone; the engine may not be installed
            return str(entry.run_id)
        return format_html('<a class="m-link" href="{}">{}</a>', url, entry.run_id)

    @admin.display(description="Unit prices")
    def prices(self, entry: CostEntry) -> str:
        return shown_json(entry.unit_prices)
