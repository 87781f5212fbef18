"""Usage as each provider states it, brought into our one form.

Providers differ in what includes what. Whatever they say, the result is sound: parts never
exceed their whole, and counts that are missing or absurd are estimated and marked so. That goes
for zeros too, where something was read or written. Any other count is believed: it is what the
provider will bill. So is its own statement of the price, unless it says that the call was free:
whether a model is free is for the price book to say.
"""

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from agents_app.core.model import ModelRequest
from costs.core.money import nano_from_usd
from costs.core.pricing import ZERO, estimate_tokens
from costs.core.usage import Usage

# No real call comes near; beyond it a number is a fault or an attack on the ledger.
_MOST_TOKENS = 10**9
# xAI states prices in ticks of 10^-10 USD.
_TICKS_PER_NANO = 10
_MOST_TICKS = 10**15
_MOST_USD = 100_000


def from_openai(stated: object, *, request: ModelRequest, text: str) -> Usage:
    """Input includes what was cached, output includes reasoning.

    Reads the words of chat completions and those of responses; and, where a server leaves out the
    details, DeepSeek's own for its cache.
    """
    usage = _mapping(stated)
    asked = _first_count(usage, "prompt_tokens", "input_tokens")
    written = _first_count(usage, "completion_tokens", "output_tokens")
    details = _mapping(usage.get("prompt_tokens_details") or usage.get("input_tokens_details"))
    cached = _count(details.get("cached_tokens"))
    return _sound(
        input_tokens=asked,
        output_tokens=_whole_output(usage, asked=asked, written=written),
        cached_tokens=_count(usage.get("prompt_cache_hit_tokens")) if cached is None else cached,
        cache_write_tokens=_count(details.get("cache_write_tokens")),
        reasoning_tokens=_reasoning(usage),
        request=request,
        text=text,
    )


def from_router(stated: object, *, request: ModelRequest, text: str) -> Usage:
    """As OpenAI's, with the price that routers such as OpenRouter state beside it, in USD."""
    usage = _mapping(stated)
    return replace(
        from_openai(stated, request=request, text=text),
        reported_cost_nano=_nano_from_usd(usage),
    )


def from_xai(stated: object, *, request: ModelRequest, text: str) -> Usage:
    """As OpenAI's, but output excludes reasoning, which only the total includes."""
    usage = _mapping(stated)
    details = _mapping(usage.get("prompt_tokens_details"))
    written, asked = _count(usage.get("completion_tokens")), _count(usage.get("prompt_tokens"))
    reasoning = _reasoning(usage)
    output = written
    # The total tells which way this answer counts, should the provider change its mind.
    if written is not None and usage.get("total_tokens") != (asked or 0) + written:
        output = written + (reasoning or 0)
    return _sound(
        input_tokens=asked,
        output_tokens=output,
        cached_tokens=_count(details.get("cached_tokens")),
        reasoning_tokens=reasoning,
        reported_cost_nano=_nano_from_ticks(usage.get("cost_in_usd_ticks")),
        request=request,
        text=text,
    )


def from_anthropic(stated: object, *, request: ModelRequest, text: str) -> Usage:
    """Input excludes what was read from and written to the cache; output includes thinking."""
    usage = _mapping(stated)
    plain = _count(usage.get("input_tokens"))
    read = _count(usage.get("cache_read_input_tokens")) or 0
    by_lifetime = _mapping(usage.get("cache_creation"))
    for_an_hour = _count(by_lifetime.get("ephemeral_1h_input_tokens")) or 0
    for_minutes = _count(by_lifetime.get("ephemeral_5m_input_tokens")) or 0
    written = _count(usage.get("cache_creation_input_tokens"))
    if written is None:
        written = for_minutes + for_an_hour
    details = _mapping(usage.get("output_tokens_details"))
    return _sound(
        input_tokens=None if plain is None else plain + read + written,
        output_tokens=_count(usage.get("output_tokens")),
        cached_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=for_an_hour,
        reasoning_tokens=_count(details.get("thinking_tokens")),
        request=request,
        text=text,
    )


def estimated(*, request: ModelRequest, text: str) -> Usage:
    return Usage(
        input_tokens=estimate_tokens(request.prompt_text),
        output_tokens=estimate_tokens(text),
        estimated=True,
    )


def _sound(
    *,
    input_tokens: int | None,
    output_tokens: int | None,
    cached_tokens: int | None = None,
    cache_write_tokens: int | None = None,
    cache_write_1h_tokens: int = 0,
    reasoning_tokens: int | None = None,
    reported_cost_nano: int | None = None,
    request: ModelRequest,
    text: str,
) -> Usage:
    guess = estimated(request=request, text=text)
    whole_input = _believed(input_tokens, guess.input_tokens)
    whole_output = _believed(output_tokens, guess.output_tokens)
    cached = min(cached_tokens or 0, whole_input)
    cache_write = min(cache_write_tokens or 0, whole_input - cached)
    return Usage(
        input_tokens=whole_input,
        output_tokens=whole_output,
        cached_tokens=cached,
        cache_write_tokens=cache_write,
        cache_write_1h_tokens=min(cache_write_1h_tokens, cache_write),
        reasoning_tokens=min(reasoning_tokens or 0, whole_output),
        estimated=(whole_input, whole_output) != (input_tokens, output_tokens),
        reported_cost_nano=reported_cost_nano,
    )


def _believed(stated: int | None, guess: int) -> int:
    """What was stated, unless it says that nothing was read or written where something was."""
    return stated or guess


def _whole_output(
    usage: Mapping[str, Any], *, asked: int | None, written: int | None
) -> int | None:
    """The output with its reasoning, which some servers leave out of it and count in the total."""
    reasoning = _reasoning(usage)
    if asked is None or not written or not reasoning:
        return written
    is_left_out = usage.get("total_tokens") == asked + written + reasoning
    return written + reasoning if is_left_out else written


def _reasoning(usage: Mapping[str, Any]) -> int | None:
    details = usage.get("completion_tokens_details") or usage.get("output_tokens_details")
    return _count(_mapping(details).get("reasoning_tokens"))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _first_count(usage: Mapping[str, Any], *names: str) -> int | None:
    counts = (_count(usage.get(name)) for name in names)
    return next((count for count in counts if count is not None), None)


def _count(value: object, *, most: int = _MOST_TOKENS) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= most else None


def _nano_from_ticks(ticks: object) -> int | None:
    # Half up, in integers. Zero is no statement: it would make the call free.
    count = _count(ticks, most=_MOST_TICKS)
    return (count + _TICKS_PER_NANO // 2) // _TICKS_PER_NANO if count else None


def _nano_from_usd(usage: Mapping[str, Any]) -> int | None:
    """The stated price. With a key of one's own at the provider behind, both parts of it."""
    cost = _usd(usage.get("cost"))
    if usage.get("is_byok") is True:
        behind = _usd(_mapping(usage.get("cost_details")).get("upstream_inference_cost"))
        cost = None if behind is None else (cost or ZERO) + behind
    return nano_from_usd(cost) if cost else None


def _usd(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # By its shortest text: what the server wrote, and not what the float makes of it.
    amount = Decimal(str(value))
    return amount if amount.is_finite() and 0 <= amount <= _MOST_USD else None
