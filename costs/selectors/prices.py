"""Which price holds for a call: the tenant's own, the operator's, or the library's."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from costs.core.errors import UnknownPriceError
from costs.core.pricing import Price, batch_price, library_batch_price, library_price
from costs.models import PlatformPrice, PriceFields, TenantPrice

ANY_MODEL = "*"
# What is left of the price by the token for calls in batches.
BATCH_FACTORS = {
    "openai": Decimal("0.5"),
    "anthropic": Decimal("0.5"),
    "simulated": Decimal("0.5"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceRow:
    """A dated price as it lies in a table. `rank` orders tables: the tenant's come first."""

    rank: int
    provider: str
    model: str
    valid_from: date
    price: Price


def price_rows() -> tuple[PriceRow, ...]:
    """All rows that can matter to the tenant of the open scope."""
    own = [_row(row, rank=0, source="tenant") for row in TenantPrice.objects.all()]
    return (*own, *platform_rows())


def platform_rows() -> tuple[PriceRow, ...]:
    """The operator's rows, which hold for every tenant without one of its own."""
    return tuple(_row(row, rank=1, source="platform") for row in PlatformPrice.objects.all())


def price_of(rows: Iterable[PriceRow], *, provider: str, model: str, on: date) -> Price:
    """The price on a day. An exact model name beats `*`, then the later row wins.

    `model` is the one that is asked for. Under which name the provider then answers changes
    nothing: it was held by this price, and a provider must not choose its own.

    Raises UnknownPriceError where neither a row nor the library knows the model.
    """
    fitting = [
        row
        for row in rows
        if row.provider == provider and row.model in (model, ANY_MODEL) and row.valid_from <= on
    ]
    if fitting:
        return max(fitting, key=_preference).price
    found = library_price(provider, model, on)
    if found is None:
        raise UnknownPriceError(provider, model)
    return found


def batch_price_of(
    rows: Iterable[PriceRow],
    *,
    provider: str,
    model: str,
    on: date,
    factors: Mapping[str, Decimal],
) -> Price:
    """The same for a call in a batch.

    `factors` are the operator's own, by provider, and go before what the library states. A row is
    of plain calls, and is multiplied by what the provider is known to take off.

    Raises UnknownPriceError.
    """
    plain = price_of(rows, provider=provider, model=model, on=on)
    if provider in factors:
        return batch_price(plain, factors[provider])
    stated = library_batch_price(provider, model, on)
    if stated is not None and plain == library_price(provider, model, on):
        return stated
    return batch_price(plain, BATCH_FACTORS.get(provider, Decimal(1)))


def _preference(row: PriceRow) -> tuple[int, bool, date]:
    return (-row.rank, row.model != ANY_MODEL, row.valid_from)


def _row(row: PriceFields, *, rank: int, source: str) -> PriceRow:
    return PriceRow(
        rank=rank,
        provider=row.provider,
        model=row.model,
        valid_from=row.valid_from,
        price=row.as_price(source=f"{source} price from {row.valid_from}"),
    )
