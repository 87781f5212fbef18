"""Price rows of the operator's, copied from the price library."""

from datetime import date
from enum import StrEnum

from costs.core.errors import UnknownPriceError
from costs.core.pricing import Price, library_price, tiers_to_json
from costs.models import PlatformPrice
from tenants.scope import as_operator


class Pinned(StrEnum):
    ADDED = "added"
    UNCHANGED = "unchanged"  # the row that holds says the same
    TAKEN = "taken"  # another row begins on this very day; rows are not edited


def pin_library_price(
    provider: str, model: str, *, on: date, source: tuple[str, str] | None = None
) -> Pinned:
    """Have the library's price hold from a day on, whatever later versions of it say.

    `source` names provider and model in the library where they are called otherwise there.
    Raises UnknownPriceError if the library knows none.
    """
    found = library_price(*(source or (provider, model)), on)
    if found is None:
        raise UnknownPriceError(*(source or (provider, model)))
    rows = PlatformPrice.objects.using("system").filter(provider=provider, model=model)
    latest = rows.filter(valid_from__lte=on).order_by("-valid_from").first()
    if latest is not None and latest.as_price(source="").same_rates(found):
        return Pinned.UNCHANGED
    if latest is not None and latest.valid_from == on:
        return Pinned.TAKEN
    with as_operator():
        PlatformPrice.objects.using("system").create(
            provider=provider, model=model, valid_from=on, **_columns(found)
        )
    return Pinned.ADDED


def _columns(price: Price) -> dict[str, object]:
    return {
        "input_usd": price.input,
        "output_usd": price.output,
        "cached_usd": price.cached,
        "cache_write_usd": price.cache_write,
        "cache_write_1h_usd": price.cache_write_1h,
        "request_usd": price.per_request or None,
        "tiers": tiers_to_json(price.tiers),
    }
