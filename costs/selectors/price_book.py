"""Which price holds for which model, and how the book compares with the library."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from costs.core.errors import UnknownPriceError
from costs.core.pricing import Price, library_price
from costs.selectors.prices import PriceRow, price_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Priced:
    """A model with the price that holds, and the library's. None: there is none."""

    provider: str
    model: str
    price: Price | None
    library: Price | None

    @property
    def is_free(self) -> bool:
        """Whether a call costs nothing whatever it uses."""
        return self.price is not None and not self.price.costs_anything

    @property
    def differs(self) -> bool:
        """Whether a row says something else than the library does."""
        return bool(self.price and self.library and not self.price.same_rates(self.library))


def price_book(
    rows: Sequence[PriceRow], models: Iterable[tuple[str, str]], *, on: date
) -> list[Priced]:
    return [
        Priced(
            provider=provider,
            model=model,
            price=_price(rows, provider, model, on),
            library=library_price(provider, model, on),
        )
        for provider, model in sorted(set(models))
    ]


def _price(rows: Sequence[PriceRow], provider: str, model: str, on: date) -> Price | None:
    try:
        return price_of(rows, provider=provider, model=model, on=on)
    except UnknownPriceError:
        return None
