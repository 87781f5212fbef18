from decimal import Decimal

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest

from costs.models import PlatformPrice, TenantPrice
from tenants.admin_base import OperatorModelAdmin, TenantForm, TenantModelAdmin, is_operator
from tenants.roles import Scope

_COLUMNS = ("provider", "model", "valid_from", "input", "output")
_FIELDS = (
    ("provider", "model"),
    "valid_from",
    ("input_usd", "output_usd"),
    ("cached_usd", "cache_write_usd", "cache_write_1h_usd"),
    "request_usd",
    "tiers",
)


def _plain(usd: Decimal) -> str:
    """Without the zeros at its end."""
    return f"{usd.normalize():f}"


class _PriceAdmin:
    """Dated prices. A change is a new row, so what was charged stays explicable."""

    list_display = _COLUMNS
    list_filter = ("provider",)
    search_fields = ("provider", "model")
    ordering = ("provider", "model", "-valid_from")
    fields = _FIELDS

    @admin.display(description="Input (USD per million)", ordering="input_usd")
    def input(self, price: PlatformPrice | TenantPrice) -> str:
        return _plain(price.input_usd)

    @admin.display(description="Output (USD per million)", ordering="output_usd")
    def output(self, price: PlatformPrice | TenantPrice) -> str:
        return _plain(price.output_usd)

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
