from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html

from costs.core.money import format_usd
from costs.models import CostEntry, PlatformPrice, TenantPrice
from tenants.admin_base import (
    OperatorModelAdmin,
    TenantForm,
    TenantModelAdmin,
    is_operator,
    shown_json,
)
from tenants.roles import Scope

_PRICE_COLUMNS = ("provider", "model", "valid_from", "input_usd", "output_usd")
_PRICE_FIELDS = (
    ("provider", "model"),
    "valid_from",
    ("input_usd", "output_usd"),
    ("cached_usd", "cache_write_usd"),
)


@admin.register(CostEntry)
class CostEntryAdmin(TenantModelAdmin):
    """The ledger. Read-only: a correction is a new line."""

    view_scope = Scope.COSTS_READ
    list_display = (
        "at",
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
    date_hierarchy = "at"
    fields = (
        "at",
        ("amount", "kind", "estimated"),
        ("workflow_name", "step", "agent", "role"),
        ("provider", "model"),
        ("input_tokens", "output_tokens"),
        ("cached_tokens", "cache_write_tokens", "reasoning_tokens"),
        "run_link",
        ("call_id", "attempt"),
        "prices",
    )

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


class _PriceAdmin:
    """Dated prices. A change is a new row, so what was charged stays explicable."""

    list_display = _PRICE_COLUMNS
    list_filter = ("provider",)
    search_fields = ("provider", "model")
    ordering = ("provider", "model", "-valid_from")
    fields = _PRICE_FIELDS

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class TenantPriceForm(TenantForm):
    unique = ("provider", "model", "valid_from")


@admin.register(TenantPrice)
class TenantPriceAdmin(_PriceAdmin, TenantModelAdmin):
    """What the operator agreed with the tenant, who sees it but cannot set it.

    It also prices calls with the operator's own keys: a tenant's own zero would make those free.
    """

    view_scope = Scope.COSTS_READ
    form = TenantPriceForm

    def may_edit(self, request: HttpRequest) -> bool:
        return is_operator(request)


@admin.register(PlatformPrice)
class PlatformPriceAdmin(_PriceAdmin, OperatorModelAdmin):
    pass
