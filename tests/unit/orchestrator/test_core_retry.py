import pytest

from orchestrator.core.parsing import spec_from_mapping
from orchestrator.core.retry import RetryPolicy


def delays(strategy: str, jitter: float = 0.0) -> list[float | None]:
    policy = RetryPolicy(strategy=strategy, max_attempts=6, base_delay=2, factor=3, max_delay=20)
    return [policy.next_delay(attempt=n, retryable=True, jitter=jitter) for n in range(1, 7)]


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("immediate", [0, 0, 0, 0, 0, None]),
        ("constant", [2, 2, 2, 2, 2, None]),
        ("linear", [2, 4, 6, 8, 10, None]),
        ("exponential", [2, 6, 18, 20, 20, None]),
    ],
)
def test_strategies(strategy: str, expected: list[float | None]) -> None:
    assert delays(strategy) == expected


def test_jitter_shortens_to_no_less_than_half() -> None:
    assert delays("constant", jitter=0.999)[0] == pytest.approx(1.001)


def test_error_that_is_not_retryable_ends_it() -> None:
    assert RetryPolicy().next_delay(attempt=1, retryable=False, jitter=0) is None


def test_provider_that_says_when_wins() -> None:
    policy = RetryPolicy(max_delay=5)

    assert policy.next_delay(attempt=1, retryable=True, jitter=0.5, retry_after=90) == 90


def test_policy_reads_the_spec() -> None:
    retry = {"strategy": "linear", "attempts": 5, "base": "1m", "cap": "1h", "jitter": False}
    spec = spec_from_mapping({"name": "x", "steps": {"a": {"agent": "x", "retry": retry}}})
    written = spec.steps[0].retry
    assert written is not None

    policy = RetryPolicy.of(written)

    assert policy.next_delay(attempt=4, retryable=True, jitter=0.9) == 240
