from typing import ClassVar

from django.db import models

from tenants.kernel.models import Record, TenantOwned


class PriceFields(models.Model):
    """USD per million tokens from a day on. A change is a new row, so old costs stay true."""

    provider = models.CharField(max_length=32)
    model = models.CharField(max_length=200, help_text="Exact name, or * for every model.")
    valid_from = models.DateField()
    input_usd = models.DecimalField(max_digits=18, decimal_places=9)
    output_usd = models.DecimalField(max_digits=18, decimal_places=9)
    cached_usd = models.DecimalField(max_digits=18, decimal_places=9, null=True, blank=True)
    cache_write_usd = models.DecimalField(max_digits=18, decimal_places=9, null=True, blank=True)

    labelled_by: ClassVar[tuple[str, ...]] = ("provider", "model")

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.provider} {self.model} from {self.valid_from}"


def _not_negative() -> models.Q:
    return (
        models.Q(input_usd__gte=0, output_usd__gte=0)
        & (models.Q(cached_usd__isnull=True) | models.Q(cached_usd__gte=0))
        & (models.Q(cache_write_usd__isnull=True) | models.Q(cache_write_usd__gte=0))
    )


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
