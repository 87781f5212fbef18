from typing import ClassVar

from django.core.exceptions import ValidationError
from django.db import models

from costs.core.pricing import ZERO, Price, tiers_from_json
from tenants.kernel.models import Record, TenantOwned

_CACHE_RATES = ("cached_usd", "cache_write_usd", "cache_write_1h_usd")


class PriceFields(models.Model):
    """USD per million tokens from a day on. A change is a new row, so old costs stay true."""

    provider = models.CharField(max_length=32)
    model = models.CharField(max_length=200, help_text="Exact name, or * for every model.")
    valid_from = models.DateField()
    input_usd = models.DecimalField(max_digits=18, decimal_places=9)
    output_usd = models.DecimalField(max_digits=18, decimal_places=9)
    cached_usd = models.DecimalField(max_digits=18, decimal_places=9, null=True, blank=True)
    cache_write_usd = models.DecimalField(max_digits=18, decimal_places=9, null=True, blank=True)
    cache_write_1h_usd = models.DecimalField(max_digits=18, decimal_places=9, null=True, blank=True)
    request_usd = models.DecimalField(
        max_digits=18, decimal_places=9, null=True, blank=True, help_text="For each call."
    )
    tiers = models.JSONField(
        default=list,
        db_default=[],
        blank=True,
        help_text=(
            "Rates for the whole of a call with more input than so many tokens, such as "
            '[{"above_input_tokens": 200000, "input": "6", "output": "22.5"}].'
        ),
    )

    labelled_by: ClassVar[tuple[str, ...]] = ("provider", "model")

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.provider} {self.model} from {self.valid_from}"

    def clean(self) -> None:
        rates = ("input_usd", "output_usd", "request_usd", *_CACHE_RATES)
        negative = {
            name: "It cannot be negative." for name in rates if (getattr(self, name) or 0) < 0
        }
        if negative:
            raise ValidationError(negative)
        try:
            self.tiers = self.tiers or []
            Price(input=ZERO, output=ZERO, tiers=tiers_from_json(self.tiers))
        except (ValueError, TypeError, LookupError, ArithmeticError) as error:
            raise ValidationError({"tiers": f"These are no rates: {error}."}) from None

    def as_price(self, *, source: str) -> Price:
        return Price(
            input=self.input_usd,
            output=self.output_usd,
            cached=self.cached_usd,
            cache_write=self.cache_write_usd,
            cache_write_1h=self.cache_write_1h_usd,
            per_request=self.request_usd or ZERO,
            tiers=tiers_from_json(self.tiers),
            source=source,
        )


def _not_negative() -> models.Q:
    condition = models.Q(input_usd__gte=0, output_usd__gte=0)
    for rate in (*_CACHE_RATES, "request_usd"):
        condition &= models.Q(**{f"{rate}__isnull": True}) | models.Q(**{f"{rate}__gte": 0})
    return condition


class PlatformPrice(PriceFields, Record):
    """A price set by the operator for all tenants; it wins over the price library."""

    class Meta:
        db_table = "platform_price"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["provider", "model", "valid_from"], name="platform_price_once_per_day"
            ),
            models.CheckConstraint(condition=_not_negative(), name="platform_price_not_negative"),
        ]


class TenantPrice(PriceFields, TenantOwned):
    """A tenant's negotiated price; it wins over every other."""

    class Meta:
        db_table = "tenant_price"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["tenant", "provider", "model", "valid_from"],
                name="tenant_price_once_per_day",
            ),
            models.CheckConstraint(condition=_not_negative(), name="tenant_price_not_negative"),
        ]
