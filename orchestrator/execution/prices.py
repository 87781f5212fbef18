"""Prices as a worker needs them: from memory, refreshed now and then."""

import threading
import time
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import UUID

from cachetools import TTLCache
from django.conf import settings
from django.db import connection
from django.db.models.functions import Now

from costs.core.errors import UnknownPriceError
from costs.core.pricing import Price
from costs.selectors.prices import PriceRow, batch_price_of, price_of, price_rows
from tenants.loading import SingleFlight
from tenants.models import Tenant
from tenants.scope import tenant_scope


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """The rows that hold for a tenant, and when they were read, by two clocks."""

    rows: tuple[PriceRow, ...]
    at: datetime  # of the database
    monotonic: float

    def today(self) -> date:
        """The database's day, in UTC: a worker whose clock is wrong pays what others pay."""
        return (self.at + timedelta(seconds=time.monotonic() - self.monotonic)).date()


# An edited price counts from its day on, so a minute's delay changes nothing but that minute.
_rows: TTLCache[UUID, _Known] = TTLCache(maxsize=1000, ttl=60)
_guard = threading.Lock()


def price_for(tenant_id: UUID, provider: str, model: str) -> Price:
    """The price that holds for a tenant now. Raises UnknownPriceError."""
    known = _known_of(tenant_id)
    return price_of(known.rows, provider=provider, model=model, on=known.today())


def batch_price_for(tenant_id: UUID, provider: str, model: str) -> Price:
    """The same for a call in a batch. Raises UnknownPriceError."""
    known = _known_of(tenant_id)
    return batch_price_of(
        known.rows,
        provider=provider,
        model=model,
        on=known.today(),
        factors=settings.MUSTER_BATCH_FACTORS,
    )


def _known_of(tenant_id: UUID) -> _Known:
    with _guard:
        known = _rows.get(tenant_id)
    return _load(tenant_id) if known is None else known


def _read(tenant_id: UUID) -> _Known:
    with tenant_scope(tenant_id):
        rows = price_rows()
        at = Tenant.objects.values_list(Now(), flat=True).get(id=tenant_id)
    known = _Known(rows=rows, at=at, monotonic=time.monotonic())
    if not connection.in_atomic_block:
        # Back to the pool at once: the model call that follows may take minutes.
        connection.close()
    with _guard:
        _rows[tenant_id] = known
    return known


# A wide level begins with hundreds of calls at once.
_load = SingleFlight(_read)


def knows_price(tenant_id: UUID, provider: str, model: str) -> bool:
    """Whether a call could be priced: a model without a price is one that cannot be called."""
    try:
        price_for(tenant_id, provider, model)
    except UnknownPriceError:
        return False
    return True
