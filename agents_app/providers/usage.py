"""Usage as each provider states it, brought into our one form.

Providers differ in what includes what. Whatever they say, the result is sound: parts never
exceed their whole, and counts that are missing or absurd are estimated and marked so.
"""

from collections.abc import Mapping
from typing import Any

from agents_app.core.model import ModelRequest
from costs.core.pricing import estimate_tokens
from costs.core.usage import Usage

# No real call comes near; beyond it a number is a fault or an attack on the ledger.
_MOST_TOKENS = 10**9
# xAI states prices in ticks of 10^-10 USD.
_TICKS_PER_NANO = 10
_MOST_TICKS = 10**15


def from_openai(stated: object, *, request: ModelRequest, text: str) -> Usage:
    """Input includes what was cached, output includes reasoning."""
    usage = _mapping(stated)
    details = _mapping(usage.get("prompt_tokens_details"))
    return _sound(
        input_tokens=_count(usage.get("prompt_tokens")),
        output_tokens=_count(usage.get("completion_tokens")),
        cached_tokens=_count(details.get("cached_tokens")),
        cache_write_tokens=_count(details.get("cache_write_tokens")),
        reasoning_tokens=_reasoning(usage),
        request=request,
        text=text,
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
    written = _count(usage.get("cache_creation_input_tokens")) or 0
    details = _mapping(usage.get("output_tokens_details"))
    return _sound(
        input_tokens=None if plain is None else plain + read + written,
        output_tokens=_count(usage.get("output_tokens")),
        cached_tokens=read,
        cache_write_tokens=written,
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
    reasoning_tokens: int | None = None,
    reported_cost_nano: int | None = None,
    request: ModelRequest,
    text: str,
) -> Usage:
    guess = estimated(request=request, text=text)
    whole_input = guess.input_tokens if input_tokens is None else input_tokens
    whole_output = guess.output_tokens if output_tokens is None else output_tokens
    cached = min(cached_tokens or 0, whole_input)
    return Usage(
        input_tokens=whole_input,
        output_tokens=whole_output,
        cached_tokens=cached,
        cache_write_tokens=min(cache_write_tokens or 0, whole_input - cached),
        reasoning_tokens=min(reasoning_tokens or 0, whole_output),
        estimated=input_tokens is None or output_tokens is None,
        reported_cost_nano=reported_cost_nano,
    )


def _reasoning(usage: Mapping[str, Any]) -> int | None:
    return _count(_mapping(usage.get("completion_tokens_details")).get("reasoning_tokens"))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: object, *, most: int = _MOST_TOKENS) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= most else None


def _nano_from_ticks(ticks: object) -> int | None:
    count = _count(ticks, most=_MOST_TICKS)
    # Half up, in integers.
    return None if count is None else (count + _TICKS_PER_NANO // 2) // _TICKS_PER_NANO
