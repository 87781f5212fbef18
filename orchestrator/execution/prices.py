"""Prices as a worker needs them: from memory, refreshed now and then."""

import time
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db.models.functions import Now

from costs.core.errors import UnknownPriceError
from costs.core.pricing import Price
from costs.selectors.prices import PriceRow, batch_price_of, price_of, price_rows
from tenants.fresh import Fresh
from tenants.models import Tenant
from tenants.scope import current_tenant_id


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """The rows that hold for a tenant, and when they were read, by two clocks."""

    rows: tuple[PriceRow, ...]
    at: datetime  # of the database
    monotonic: float

    def today(self) -> date:
        """The database's day, in UTC: a worker whose clock is wrong pays what others pay."""
        return (self.at + timedelta(seconds=time.monotonic() - self.monotonic)).date()


def price_for(tenant_id: UUID, provider: str, model: str) -> Price:
    """The price that holds for a tenant now. Raises UnknownPriceError."""
    known = _rows.of(tenant_id)
    return price_of(known.rows, provider=provider, model=model, on=known.today())


def batch_price_for(tenant_id: UUID, provider: str, model: str) -> Price:
    """The same for a call in a batch. Raises UnknownPriceError."""
    known = _rows.of(tenant_id)
    return batch_price_of(
        known.rows,
        provider=provider,
        model=model,
        on=known.today(),
        factors=settings.MUSTER_BATCH_FACTORS,
    )


def _read() -> _Known:
    at = Tenant.objects.values_list(Now(), flat=True).get(id=current_tenant_id())
    return _Known(rows=price_rows(), at=at, monotonic=time.monotonic())


# An edited price counts from its day on, so a minute's delay changes nothing but that minute.
_rows: Fresh[_Known] = Fresh(_read, seconds=60)


def knows_price(tenant_id: UUID, provider: str, model: str) -> bool:
    """Whether a call could be priced: a model without a price is one that cannot be called."""
    try:
        price_for(tenant_id, provider, model)
    except UnknownPriceError:
        return False
    return True
