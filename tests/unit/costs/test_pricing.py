from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest

from costs.core.errors import UnknownPriceError
from costs.core.pricing import (
    Price,
    PriceTier,
    batch_price,
    cost,
    estimate_tokens,
    library_batch_price,
    library_price,
    price_from_json,
    token_upper_bound,
    worst_case,
)
from costs.core.usage import Usage
from costs.selectors.prices import PriceRow, batch_price_of
from orchestrator.execution.call_rows import prices_to_json

NOVEMBER = date(2026, 11, 1)
PRICE = Price(
    input=Decimal("3"),
    output=Decimal("15"),
    cached=Decimal("0.3"),
    cache_write=Decimal("3.75"),
    tiers=(PriceTier(above_input_tokens=200_000, input=Decimal("6"), output=Decimal("22.5")),),
)


def test_each_token_class_is_charged_once():
    usage = Usage(
        input_tokens=1000,
        output_tokens=100,
        cached_tokens=600,
        cache_write_tokens=100,
        reasoning_tokens=40,
    )

    charged = cost(usage, PRICE)

    assert charged.nano == 300 * 3000 + 600 * 300 + 100 * 3750 + 100 * 15000
    assert charged.breakdown["cached"] == Decimal("0.00018")


def test_a_cached_token_of_a_cheap_model_is_still_worth_something():
    price = Price(input=Decimal("0.05"), output=Decimal("0.4"), cached=Decimal("0.02"))

    assert cost(Usage(input_tokens=1, output_tokens=0, cached_tokens=1), price).nano == 20


def test_crossing_a_tier_reprices_the_whole_call():
    below = cost(Usage(input_tokens=200_000, output_tokens=1), PRICE)
    above = cost(Usage(input_tokens=200_001, output_tokens=1), PRICE)

    assert below.rates.input == Decimal("3")
    assert above.nano == 200_001 * 6000 + 22_500


def test_reported_cost_wins_over_our_arithmetic():
    charged = cost(Usage(input_tokens=10, output_tokens=10, reported_cost_nano=123), PRICE)

    assert charged.nano == 123
    assert charged.rates is None


def test_classes_without_a_price_are_charged_as_plain_input():
    price = Price(input=Decimal("2"), output=Decimal("0"))

    charged = cost(
        Usage(input_tokens=3, output_tokens=0, cached_tokens=1, cache_write_tokens=1), price
    )

    assert charged.nano == 3 * 2000


def test_request_fee_is_added_once():
    price = Price(input=Decimal("0"), output=Decimal("0"), per_request=Decimal("0.012"))

    assert cost(Usage(input_tokens=9, output_tokens=9), price).nano == 12_000_000


@pytest.mark.parametrize("amount", ["-1", "NaN", "Infinity"])
def test_price_refuses_amounts_that_are_no_price(amount):
    with pytest.raises(ValueError):
        Price(input=Decimal(amount), output=Decimal("1"))


def test_worst_case_takes_the_dearest_class_and_the_tier():
    assert worst_case(input_bound=1000, max_output=10, price=PRICE) == 1000 * 3750 + 10 * 15000
    assert worst_case(input_bound=300_000, max_output=0, price=PRICE) == 300_000 * 6000


def test_worst_case_holds_where_a_tier_is_cheaper():
    price = Price(
        input=Decimal("5"),
        output=Decimal("0"),
        tiers=(PriceTier(above_input_tokens=100, input=Decimal("1"), output=Decimal("0")),),
    )

    assert worst_case(input_bound=101, max_output=0, price=price) == 101 * 5000


def test_library_knows_prices_with_long_context_tiers():
    price = library_price("anthropic", "claude-sonnet-4-5", NOVEMBER)

    assert price.rates(1000).input == Decimal("3")
    assert price.rates(250_000).output == Decimal("22.5")
    assert price.rates(250_000).cached == Decimal("0.6")
    assert price.source == "genai-prices: anthropic/claude-sonnet-4-5"


def test_library_maps_our_provider_names():
    assert library_price("xai", "grok-4", NOVEMBER).output == Decimal("15")
    assert library_price("openai", "gpt-5.2", NOVEMBER).cached == Decimal("0.175")


@pytest.mark.parametrize(
    ("provider", "model"),
    [("openai", "no-such-model"), ("local", "smollm2"), ("acme-server", "gpt-5.2"), ("openai", "")],
)
def test_library_has_no_price_for_the_unknown(provider, model):
    assert library_price(provider, model, NOVEMBER) is None


def test_library_has_no_token_price_for_models_that_bill_otherwise():
    assert library_price("openai", "whisper-1", NOVEMBER) is None


def test_library_knows_what_batches_cost():
    plain = library_price("openai", "gpt-4o", NOVEMBER)
    stated = library_batch_price("openai", "gpt-4o", NOVEMBER)

    assert (stated.input, stated.output) == (plain.input / 2, plain.output / 2)
    assert library_batch_price("openai", "no-such-model", NOVEMBER) is None


def test_discount_holds_for_all_tokens_and_no_fee():
    price = replace(PRICE, per_request=Decimal("0.01"))

    half = batch_price(price, Decimal("0.5"))

    assert (half.input, half.output, half.cached) == (
        Decimal("1.5"),
        Decimal("7.5"),
        Decimal("0.15"),
    )
    assert half.tiers[0].output == Decimal("11.25")
    assert half.per_request == price.per_request
    assert batch_price(price, Decimal(1)) == price


def row(**facts):
    known = {"rank": 1, "provider": "openai", "model": "*", "valid_from": NOVEMBER, "price": PRICE}
    return PriceRow(**{**known, **facts})


@pytest.mark.parametrize(
    ("rows", "factors", "expected"),
    [
        ([], {}, "1.25"),
        ([], {"openai": Decimal("0.8")}, "2"),
        ([row()], {}, "1.5"),
        ([row()], {"openai": Decimal(1)}, "3"),
        ([row(price=library_price("openai", "gpt-4o", NOVEMBER))], {}, "1.25"),
    ],
    ids=["library", "operator's factor", "row", "row and factor", "pinned"],
)
def test_batch_price_follows_who_sets_the_price(rows, factors, expected):
    facts = {"provider": "openai", "model": "gpt-4o", "on": NOVEMBER}

    assert batch_price_of(rows, factors=factors, **facts).input == Decimal(expected)


def test_provider_that_is_not_known_to_take_anything_off_charges_the_plain_price():
    rows = [row(provider="compatible")]

    found = batch_price_of(rows, provider="compatible", model="m", on=NOVEMBER, factors={})

    assert found == PRICE


def test_price_kept_with_a_call_comes_back_as_it_was():
    price = batch_price(replace(PRICE, source="x"), Decimal("0.5"))

    assert price_from_json(prices_to_json(price)) == price


def test_estimate_counts_bytes_and_the_bound_is_never_below():
    assert estimate_tokens("") == 0
    assert estimate_tokens("abc" * 10) == 11
    assert token_upper_bound("héé") == 5
    assert token_upper_bound("\ud800") == 3


def test_unknown_price_says_what_to_do():
    error = UnknownPriceError("openai", "gpt-x")

    assert "gpt-x" in str(error)
    assert error.args == ("openai", "gpt-x")
