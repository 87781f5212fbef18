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
    """What is left by unit, and for how long nothing will be where something is used up."""

    left: Mapping[Unit, int]
    exhausted_seconds: float = 0.0


def remaining_quota(headers: Mapping[str, str]) -> RemainingQuota:
    """What the headers of OpenAI's and Anthropic's form say; nonsense in them is passed over."""
    known = {name.lower(): value.strip() for name, value in headers.items()}
    left: dict[Unit, int] = {}
    longest = 0.0
    for name, unit in _LEFT.items():
        text = known.get(name, "")
        if not (text.isascii() and text.isdigit()) or int(text) > _LARGEST:
            continue
        left[unit] = min(int(text), left.get(unit, int(text)))
        if int(text) == 0:
            longest = max(longest, _reset_seconds(known, name))
    return RemainingQuota(left=left, exhausted_seconds=min(longest, _LONGEST_SECONDS))


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
