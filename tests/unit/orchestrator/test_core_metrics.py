from dataclasses import replace

import pytest

from orchestrator.core.metrics import Work, performance, throughput_tier

WORK = Work(
    completion_tokens=300,
    total_tokens=1_000,
    cost_nano=2_000_000,
    call_seconds=10.0,
    useful_seconds=12.0,
    life_seconds=16.0,
)
NOTHING = Work(
    completion_tokens=0,
    total_tokens=0,
    cost_nano=0,
    call_seconds=None,
    useful_seconds=None,
    life_seconds=None,
)


def test_figures_follow_their_formulas() -> None:
    found = performance(WORK)

    assert found.tokens_per_second == 30.0
    assert found.cost_per_token == "0.000002"
    assert found.efficiency_score == 75.0
    assert found.throughput_tier == "medium"


def test_what_never_ran_has_no_figures() -> None:
    found = performance(NOTHING)

    assert (found.tokens_per_second, found.cost_per_token) == (None, None)
    assert (found.efficiency_score, found.throughput_tier) == (None, None)


def test_step_without_a_model_is_efficient_all_the_same() -> None:
    found = performance(replace(NOTHING, useful_seconds=1.0, life_seconds=4.0))

    assert (found.efficiency_score, found.throughput_tier) == (25.0, None)


def test_what_failed_led_to_nothing() -> None:
    assert performance(replace(WORK, useful_seconds=None)).efficiency_score == 0.0


def test_clocks_that_disagree_do_not_make_more_than_all() -> None:
    found = performance(replace(WORK, useful_seconds=5.0, life_seconds=4.9))

    assert found.efficiency_score == 100.0


@pytest.mark.parametrize(
    ("cost_nano", "tokens", "shown"),
    [(0, 10, "0"), (1, 3, "0.000000000333333"), (5 * 10**18, 1, "5000000000")],
)
def test_cost_of_a_token_is_plain_decimal_text(cost_nano: int, tokens: int, shown: str) -> None:
    found = performance(replace(WORK, cost_nano=cost_nano, total_tokens=tokens))

    assert found.cost_per_token == shown


@pytest.mark.parametrize(
    ("speed", "tier"), [(None, None), (0.1, "low"), (20, "medium"), (59.9, "medium"), (60, "high")]
)
def test_tiers_begin_where_they_say(speed: float | None, tier: str | None) -> None:
    assert throughput_tier(speed) == tier
