"""What providers' headers say, and which limits make no sense."""

import pytest

from orchestrator.core.limits import Unit
from orchestrator.core.limits.headers import remaining_quota


def test_openais_headers_are_read() -> None:
    quota = remaining_quota(
        {
            "X-RateLimit-Remaining-Requests": "59",
            "x-ratelimit-remaining-tokens": "149984",
            "x-ratelimit-reset-requests": "1s",
        }
    )

    assert quota.left == {Unit.REQUESTS: 59, Unit.TOTAL: 149_984}
    assert quota.exhausted == {}


@pytest.mark.parametrize(
    ("reset", "seconds"), [("6m0s", 360), ("20ms", 0.02), ("1h2m3.5s", 3600), ("", 0), ("soon", 0)]
)
def test_what_is_used_up_comes_back_at_its_reset(reset: str, seconds: float) -> None:
    quota = remaining_quota(
        {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": reset}
    )

    assert quota.exhausted == {Unit.REQUESTS: pytest.approx(seconds)}


def test_anthropics_headers_are_read_by_anthropics_clock() -> None:
    quota = remaining_quota(
        {
            "anthropic-ratelimit-input-tokens-remaining": "0",
            "anthropic-ratelimit-input-tokens-reset": "2026-11-21T12:00:40Z",
            "anthropic-ratelimit-output-tokens-remaining": "8000",
            "date": "Sat, 21 Nov 2026 12:00:00 GMT",
        }
    )

    assert quota.left == {Unit.UNCACHED_INPUT: 0, Unit.OUTPUT: 8000}
    assert quota.exhausted == {Unit.UNCACHED_INPUT: 40}


@pytest.mark.parametrize(
    "nonsense", ["", "many", "-1", "1e9", "9" * 40, "\N{ARABIC-INDIC DIGIT ONE}"]
)
def test_nonsense_in_headers_is_passed_over(nonsense: str) -> None:
    assert remaining_quota({"x-ratelimit-remaining-requests": nonsense}).left == {}
