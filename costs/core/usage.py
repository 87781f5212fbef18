"""What one LLM call used, in one form for every provider."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Token counts in four priced classes, none counted twice.

    `input_tokens` includes the cached and the cache-write tokens, `output_tokens` includes the
    reasoning tokens. Of the cache-write tokens, `cache_write_1h_tokens` were written for an hour,
    which some providers charge more for. `estimated` marks counts that the provider did not state.
    `reported_cost_nano` is the provider's own statement of the price, in nano-USD.
    """

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cache_write_1h_tokens: int = 0
    estimated: bool = False
    reported_cost_nano: int | None = None

    def __post_init__(self) -> None:
        counts = (
            self.input_tokens,
            self.output_tokens,
            self.cached_tokens,
            self.cache_write_tokens,
            self.reasoning_tokens,
            self.cache_write_1h_tokens,
            self.reported_cost_nano or 0,
        )
        if min(counts) < 0:
            raise ValueError("usage cannot be negative")
        if self.cached_tokens + self.cache_write_tokens > self.input_tokens:
            raise ValueError("cached and cache-write tokens exceed the input they are part of")
        if self.cache_write_1h_tokens > self.cache_write_tokens:
            raise ValueError("one-hour cache writes exceed the cache writes they are part of")
        if self.reasoning_tokens > self.output_tokens:
            raise ValueError("reasoning tokens exceed the output they are part of")

    @property
    def plain_input_tokens(self) -> int:
        """Input that was neither read from nor written to the provider's cache."""
        return self.input_tokens - self.cached_tokens - self.cache_write_tokens

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
            cache_write_1h_tokens=self.cache_write_1h_tokens + other.cache_write_1h_tokens,
            estimated=self.estimated or other.estimated,
            reported_cost_nano=_sum_reported(self.reported_cost_nano, other.reported_cost_nano),
        )


def _sum_reported(left: int | None, right: int | None) -> int | None:
    # A sum that misses one side would pass for the whole price.
    if left is None or right is None:
        return None
    return left + right
