"""What providers say in their answers' headers is left of their own limits."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final

from orchestrator.core.limits.facts import Unit

_LEFT: Final[Mapping[str, Unit]] = {
    "x-ratelimit-remaining-requests": Unit.REQUESTS,
    "x-ratelimit-remaining-tokens": Unit.TOTAL,
    "anthropic-ratelimit-requests-remaining": Unit.REQUESTS,
    "anthropic-ratelimit-tokens-remaining": Unit.TOTAL,
    "anthropic-ratelimit-input-tokens-remaining": Unit.UNCACHED_INPUT,
    "anthropic-ratelimit-output-tokens-remaining": Unit.OUTPUT,
}
_SPAN = re.compile(
    r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?"
)
# Nothing that a header says stops calls for longer.
_LONGEST_SECONDS: Final = 3600.0
_LARGEST: Final = 10**12


@dataclass(frozen=True, slots=True, kw_only=True)
class RemainingQuota:
    """What is left by unit, and of what is used up, in how many seconds all of it is back.

    Some of it is back before: providers refill all the time.
    """

    left: Mapping[Unit, int]
    exhausted: Mapping[Unit, float]


def remaining_quota(headers: Mapping[str, str]) -> RemainingQuota:
    """What the headers of OpenAI's and Anthropic's form say; nonsense in them is passed over."""
    known = {name.lower(): value.strip() for name, value in headers.items()}
    left: dict[Unit, int] = {}
    exhausted: dict[Unit, float] = {}
    for name, unit in _LEFT.items():
        text = known.get(name, "")
        if not (text.isascii() and text.isdigit()) or int(text) > _LARGEST:
            continue
        left[unit] = min(int(text), left.get(unit, int(text)))
        if int(text) == 0:
            seconds = min(_reset_seconds(known, name), _LONGEST_SECONDS)
            exhausted[unit] = max(seconds, exhausted.get(unit, 0.0))
    return RemainingQuota(left=left, exhausted=exhausted)


def _reset_seconds(known: Mapping[str, str], name: str) -> float:
    reset = known.get(name.replace("remaining", "reset"), "")
    span = _SPAN.fullmatch(reset)
    if span and reset:
        hours, minutes, seconds, thousandths = (float(part or 0) for part in span.groups())
        return hours * 3600 + minutes * 60 + seconds + thousandths / 1000
    try:
        # By the provider's own clock, since ours may differ.
        said_at = parsedate_to_datetime(known["date"])
        return max(0.0, (datetime.fromisoformat(reset) - said_at).total_seconds())
    except (KeyError, ValueError, TypeError):
        return 0.0
