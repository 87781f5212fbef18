"""When a failed attempt may be tried again: arithmetic only, waiting is for the caller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from orchestrator.core.spec import RetrySpec

# An exponent beyond this passes every cap, and 2**1024 does not fit a float.
_MAX_EXPONENT = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Delays are in seconds; `max_attempts` counts all tries, the first included."""

    strategy: Literal["immediate", "constant", "linear", "exponential"] = "exponential"
    max_attempts: int = 3
    base_delay: float = 2.0
    factor: float = 2.0
    max_delay: float = 60.0
    has_jitter: bool = True

    @classmethod
    def of(cls, spec: RetrySpec) -> RetryPolicy:
        return cls(
            strategy=spec.strategy,
            max_attempts=spec.attempts,
            base_delay=spec.base.seconds,
            factor=spec.factor,
            max_delay=spec.cap.seconds,
            has_jitter=spec.jitter,
        )

    def next_delay(
        self, *, attempt: int, retryable: bool, jitter: float, retry_after: float | None = None
    ) -> float | None:
        """Seconds to wait before the next attempt, or None to give up.

        `attempt` counts from 1. `jitter` is in [0, 1) and only ever shortens the wait, down to
        half, so `max_delay` stays a hard ceiling. A provider's `retry_after` wins over both.
        """
        if not retryable or attempt >= self.max_attempts:
            return None
        if retry_after is not None:
            return max(retry_after, 0.0)
        ceiling = min(self.max_delay, self._growth(attempt))
        return ceiling * (1 - jitter / 2) if self.has_jitter else ceiling

    def _growth(self, attempt: int) -> float:
        match self.strategy:
            case "immediate":
                return 0.0
            case "constant":
                return self.base_delay
            case "linear":
                return self.base_delay * attempt
            case "exponential":
                return self.base_delay * self.factor ** min(attempt - 1, _MAX_EXPONENT)
