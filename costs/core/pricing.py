"""Prices per token class and what a call costs, as Decimal arithmetic without rounding.

Rounding happens once: half up for what is charged, upward for what is set aside.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, astuple, dataclass, replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo

from costs.core.money import EXACT, nano_from_usd, round_down, round_up, usd_from_nano
from costs.core.usage import Usage

ZERO = Decimal(0)
_RUN = re.compile(r"(.)\1+", re.DOTALL)
_MOST_BYTES_OF_A_TOKEN = 32
_TOKENS_PER_PRICE = Decimal(1_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """USD per million tokens of each class."""

    input: Decimal
    output: Decimal
    cached: Decimal
    cache_write: Decimal
    cache_write_1h: Decimal

    @property
    def dearest_input(self) -> Decimal:
        """Of what a request of ours may turn into: none asks for a cache that lasts an hour."""
        return max(self.input, self.cached, self.cache_write)

    @property
    def cheapest_input(self) -> Decimal:
        return min(self.input, self.cached, self.cache_write)


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceTier:
    """Rates for the whole of a call whose input is longer than `above_input_tokens`."""

    above_input_tokens: int
    input: Decimal
    output: Decimal
    cached: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a model costs: USD per million tokens, and optionally per request.

    A class without a price of its own (`cached`, `cache_write`) is charged as plain input, writes
    for an hour as other cache writes.
    """

    input: Decimal
    output: Decimal
    cached: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None
    per_request: Decimal = ZERO
    source: str = ""
    tiers: tuple[PriceTier, ...] = ()

    def __post_init__(self) -> None:
        amounts = [self.per_request]
        levels: tuple[Price | PriceTier, ...] = (self, *self.tiers)
        for level in levels:
            own = (level.cached, level.cache_write, level.cache_write_1h)
            amounts += [level.input, level.output, *(amount or ZERO for amount in own)]
        if not all(amount.is_finite() and amount >= 0 for amount in amounts):
            raise ValueError("prices must be finite and not negative")

    @property
    def costs_anything(self) -> bool:
        levels: tuple[Price | PriceTier, ...] = (self, *self.tiers)
        rates = [each for level in levels for each in astuple(_rates_of(level))]
        return bool(self.per_request or any(rates))

    def same_rates(self, other: "Price") -> bool:
        """Whether every call costs the same by either; where they come from is no difference."""
        return replace(self, source="") == replace(other, source="")

    def rates(self, input_tokens: int) -> Rates:
        """The rates for a call with this much input: crossing a tier reprices all of it."""
        reached = [tier for tier in self.tiers if input_tokens > tier.above_input_tokens]
        return _rates_of(max(reached, key=lambda tier: tier.above_input_tokens, default=self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The price of one call. `breakdown` is exact USD per token class; it is not rounded.

    `rates` is None where the provider's own statement was taken.
    """

    nano: int
    breakdown: Mapping[str, Decimal]
    rates: Rates | None


def tiers_from_json(stored: Iterable[Mapping[str, Any]]) -> tuple[PriceTier, ...]:
    """Tiers as price rows keep them: rates as decimal text. Raises for anything else."""
    return tuple(_tier_from_json(tier) for tier in stored)


def tiers_to_json(tiers: Iterable[PriceTier]) -> list[dict[str, Any]]:
    return [
        {
            name: f"{value:f}" if isinstance(value, Decimal) else value
            for name, value in asdict(tier).items()
            if value is not None
        }
        for tier in tiers
    ]


def cost(usage: Usage, price: Price) -> Cost:
    """What `usage` costs. A cost that the provider reported wins over our arithmetic."""
    if usage.reported_cost_nano is not None:
        reported = usage.reported_cost_nano
        return Cost(nano=reported, breakdown={"reported": usd_from_nano(reported)}, rates=None)
    rates = price.rates(usage.input_tokens)
    breakdown = {
        "input": _amount(usage.plain_input_tokens, rates.input),
        "cached": _amount(usage.cached_tokens, rates.cached),
        "cache_write": _amount(
            usage.cache_write_tokens - usage.cache_write_1h_tokens, rates.cache_write
        ),
        "cache_write_1h": _amount(usage.cache_write_1h_tokens, rates.cache_write_1h),
        "output": _amount(usage.output_tokens, rates.output),
        "request": price.per_request,
    }
    return Cost(nano=nano_from_usd(_total(*breakdown.values())), breakdown=breakdown, rates=rates)


def worst_case(*, input_bound: int, max_output: int, price: Price) -> int:
    """Nano-USD that a call cannot exceed: all input in its dearest class, all output used.

    Takes the dearest of the tiers that input up to the bound may fall into, because a shorter
    input can be the dearer one where a tier lowers a rate.
    """
    candidates = [0, *(tier.above_input_tokens + 1 for tier in price.tiers), input_bound]
    reachable = [price.rates(tokens) for tokens in candidates if tokens <= input_bound]
    return max(
        round_up(
            _total(
                _amount(input_bound, rates.dearest_input),
                _amount(max_output, rates.output),
                price.per_request,
            )
        )
        for rates in reachable
    )


def least_case(*, input_least: int, price: Price) -> int:
    """Nano-USD that no answered call undercuts: input in its cheapest class, and no output.

    A longer input can be the cheaper one, where a tier lowers a rate.
    """
    starts = [tier.above_input_tokens + 1 for tier in price.tiers]
    candidates = [input_least, *(start for start in starts if start > input_least)]
    return min(
        round_down(_total(_amount(tokens, price.rates(tokens).cheapest_input), price.per_request))
        for tokens in candidates
    )


# Only providers whose prices the library keeps and that bill by the token at any hour. A name
# that is not here (a local model, a tenant's own server) has no library price.
_LIBRARY_IDS = {
    "openai": "openai",
    "anthropic": "anthropic",
    "xai": "x-ai",
    "mistral": "mistral",
    "groq": "groq",
    "together": "together",
    "fireworks": "fireworks",
    "openrouter": "openrouter",
    "perplexity": "perplexity",
    "cerebras": "cerebras",
}


_RATES = ("input", "output", "cached", "cache_write", "cache_write_1h")
_IN_BATCHES = {"processing": "batch"}


def library_price(provider: str, model: str, on: date) -> Price | None:
    """The price that the bundled library states for a day, or None if it knows none."""
    info = _library_model(provider, model)
    if info is None:
        return None
    listed = info.get_prices(datetime.combine(on, time(12), UTC))
    if listed.input_mtok is None or listed.output_mtok is None:
        return None
    return _from_library(listed, source=f"genai-prices: {_LIBRARY_IDS[provider]}/{info.id}")


def library_batch_price(provider: str, model: str, on: date) -> Price | None:
    """What the library states for calls in batches; None if it states nothing of its own."""
    info = _library_model(provider, model)
    if info is None:
        return None
    at = datetime.combine(on, time(12), UTC)
    standard, listed = info.get_prices(at), info.get_prices(at, _IN_BATCHES)
    if listed.input_mtok is None or listed.output_mtok is None or listed == standard:
        return None
    return _from_library(listed, source=f"genai-prices: {_LIBRARY_IDS[provider]}/{info.id}, batch")


def batch_price(price: Price, factor: Decimal) -> Price:
    """A price by the token with a discount; fees a request stay."""
    if factor == 1:
        return price
    return replace(
        price,
        **_scaled(price, factor),
        tiers=tuple(replace(tier, **_scaled(tier, factor)) for tier in price.tiers),
        source=f"{price.source}, batch x {factor}".removeprefix(", "),
    )


def price_from_json(stored: Mapping[str, Any]) -> Price:
    """A price as calls keep it, with its rates as decimal text. Raises for anything else."""
    rates = {name: stored.get(name) for name in _RATES}
    return Price(
        **{name: Decimal(rate) for name, rate in rates.items() if rate is not None},
        per_request=Decimal(stored["per_request"]),
        source=str(stored.get("source", "")),
        tiers=tiers_from_json(stored.get("tiers", ())),
    )


def library_context_window(provider: str, model: str) -> int | None:
    """The input tokens that a model takes, where the library knows it."""
    info = _library_model(provider, model)
    return info.context_window if info else None


def estimate_tokens(text: str) -> int:
    """A fair guess without the vendor's tokenizer: a third of the UTF-8 bytes and 10 %."""
    return estimate_of_bytes(len(_utf8(text)))


def estimate_of_bytes(size: int) -> int:
    """The same for text of which only the length in UTF-8 is known."""
    return -(-size * 11 // 30)


def token_lower_bound(text: str) -> int:
    """Never more than the real count of any text that somebody would write.

    Tokenizers make one token of long runs of the same character, and of some words of up to two
    dozen bytes; none comes near 32 on average.
    """
    return len(_utf8(_RUN.sub(r"\1", text))) // _MOST_BYTES_OF_A_TOKEN


def most_bytes_of_tokens(tokens: int) -> int:
    """The longest text that is guessed to be so many tokens."""
    return max(0, tokens) * 30 // 11


def token_upper_bound(text: str) -> int:
    """Never less than the real count of `text`: no tokenizer makes more tokens than bytes.

    Chat formats add a few tokens per message; the caller adds those.
    """
    return len(_utf8(text))


def _scaled(level: Price | PriceTier, factor: Decimal) -> dict[str, Any]:
    rates = {name: getattr(level, name) for name in _RATES}
    return {name: EXACT.multiply(rate, factor) for name, rate in rates.items() if rate is not None}


def _library_model(provider: str, model: str) -> ModelInfo | None:
    library_id = _LIBRARY_IDS.get(provider)
    if library_id is None or not model:
        return None
    try:
        _, info = get_snapshot().find_provider_model(model, None, library_id, None)
    except LookupError:
        return None
    return info


def _tier_from_json(stored: Mapping[str, Any]) -> PriceTier:
    above = stored["above_input_tokens"]
    if isinstance(above, bool) or not isinstance(above, int) or above < 1:
        raise ValueError("above_input_tokens has to be a number of tokens")
    rates = {name: value for name, value in stored.items() if name != "above_input_tokens"}
    given = {name: Decimal(str(rate)) for name, rate in rates.items() if rate is not None}
    return PriceTier(above_input_tokens=above, **given)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", errors="surrogatepass")


def _amount(tokens: int, usd_per_million: Decimal) -> Decimal:
    product = EXACT.multiply(Decimal(tokens), usd_per_million)
    return EXACT.divide(product, _TOKENS_PER_PRICE)


def _total(*amounts: Decimal) -> Decimal:
    total = ZERO
    for amount in amounts:
        total = EXACT.add(total, amount)
    return total


def _rates_of(level: Price | PriceTier) -> Rates:
    cache_write = level.input if level.cache_write is None else level.cache_write
    return Rates(
        input=level.input,
        output=level.output,
        cached=level.input if level.cached is None else level.cached,
        cache_write=cache_write,
        cache_write_1h=cache_write if level.cache_write_1h is None else level.cache_write_1h,
    )


def _from_library(listed: Any, *, source: str) -> Price:
    classes = {
        "input": listed.input_mtok,
        "output": listed.output_mtok,
        "cached": listed.cache_read_mtok,
        "cache_write": listed.cache_write_mtok,
        # Stated for the few that have it.
        "cache_write_1h": getattr(listed, "cache_write_1h_mtok", None),
    }
    starts = sorted({tier.start for value in classes.values() for tier in _tiers_of(value)})
    tiers = [
        PriceTier(above_input_tokens=start, **{k: _at(v, start + 1) for k, v in classes.items()})
        for start in starts
    ]
    return Price(
        **{name: _at(value, 0) for name, value in classes.items()},
        per_request=(listed.requests_kcount or ZERO) / 1000,
        source=source,
        tiers=tuple(tiers),
    )


def _tiers_of(value: Any) -> list[Any]:
    return list(getattr(value, "tiers", ()))


def _at(value: Any, input_tokens: int) -> Any:
    """The library's rate at an input length; a plain rate is the same at any."""
    rate = getattr(value, "base", value)
    for tier in _tiers_of(value):
        if input_tokens > tier.start:
            rate = tier.price
    return rate
