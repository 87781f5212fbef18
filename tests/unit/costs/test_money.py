from decimal import Decimal

import pytest

from costs.core.money import format_usd, nano_from_usd, round_up, usd_from_nano


@pytest.mark.parametrize(
    ("usd", "nano"),
    [("1", 10**9), ("0.0000000004", 0), ("0.0000000005", 1), ("0.0000000015", 2), ("0", 0)],
)
def test_nano_rounds_half_up(usd, nano):
    assert nano_from_usd(Decimal(usd)) == nano


def test_round_up_never_loses_a_fraction():
    assert round_up(Decimal("0.00000000001")) == 1
    assert round_up(Decimal("0.000000002")) == 2


def test_large_amounts_stay_exact():
    assert nano_from_usd(Decimal("9223372036.854775807")) == 2**63 - 1
    assert usd_from_nano(2**63 - 1) == Decimal("9223372036.854775807")


@pytest.mark.parametrize(
    ("nano", "text"),
    [(0, "0"), (20, "0.00000002"), (4_100_000, "0.0041"), (10 * 10**9, "10"), (-5, "-0.000000005")],
)
def test_format_has_no_exponent_and_no_trailing_zeros(nano, text):
    assert format_usd(nano) == text
