"""Prices as a worker needs them: from memory, refreshed now and then."""

import threading
from uuid import UUID

from cachetools import TTLCache
from django.db import connection

from costs.core.errors import UnknownPriceError
from costs.core.pricing import Price
from costs.selectors.prices import PriceRow, price_of, price_rows
from orchestrator.execution.loading import SingleFlight
from tenants.kernel.clock import now
from tenants.scope import tenant_scope

# An edited price counts from its day on, so a minute's delay changes nothing but that minute.
_rows: TTLCache[UUID, tuple[PriceRow, ...]] = TTLCache(maxsize=1000, ttl=60)
_guard = threading.Lock()


def price_for(tenant_id: UUID, provider: str, model: str) -> Price:
    """The price that holds for a tenant now. Raises UnknownPriceError."""
    return price_of(_rows_of(tenant_id), provider=provider, model=model, on=now().date())


def _rows_of(tenant_id: UUID) -> tuple[PriceRow, ...]:
    with _guard:
        known = _rows.get(tenant_id)
    return _load(tenant_id) if known is None else known


def _read(tenant_id: UUID) -> tuple[PriceRow, ...]:
    with tenant_scope(tenant_id):
        rows = price_rows()
    if not connection.in_atomic_block:
        # Back to the pool at once: the model call that follows may take minutes.
        connection.close()
    with _guard:
        _rows[tenant_id] = rows
    return rows


# A wide level begins with hundreds of calls at once.
_load = SingleFlight(_read)


def knows_price(tenant_id: UUID, provider: str, model: str) -> bool:
    """Whether a call could be priced: a model without a price is one that cannot be called."""
    try:
        price_for(tenant_id, provider, model)
    except UnknownPriceError:
        return False
    return True
