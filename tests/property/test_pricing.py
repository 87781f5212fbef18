from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from costs.core.pricing import Price, PriceTier, cost, least_case, worst_case
from costs.core.usage import Usage

rates = st.decimals(min_value=0, max_value=1000, places=4)
optional_rates = st.none() | rates


@st.composite
def prices(draw):
    tiers = [
        PriceTier(
            above_input_tokens=start,
            input=draw(rates),
            output=draw(rates),
            cached=draw(optional_rates),
            cache_write=draw(optional_rates),
        )
        for start in draw(st.lists(st.integers(0, 5000), max_size=3, unique=True))
    ]
    return Price(
        input=draw(rates),
        output=draw(rates),
        cached=draw(optional_rates),
        cache_write=draw(optional_rates),
        per_request=draw(rates),
        tiers=tuple(tiers),
    )


@st.composite
def usages(draw):
    cached, written, plain = (draw(st.integers(0, 3000)) for _ in range(3))
    output = draw(st.integers(0, 3000))
    return Usage(
        input_tokens=cached + written + plain,
        output_tokens=output,
        cached_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=draw(st.integers(0, output)),
    )


@given(usages(), prices(), st.integers(0, 500), st.integers(0, 500))
def test_no_call_within_its_bounds_costs_more_than_the_worst_case(usage, price, more, longer):
    bound = worst_case(
        input_bound=usage.input_tokens + more,
        max_output=usage.output_tokens + longer,
        price=price,
    )

    assert cost(usage, price).nano <= bound


@given(usages(), prices(), st.integers(0, 500))
def test_no_call_with_that_much_input_costs_less_than_the_least_case(usage, price, less):
    bound = least_case(input_least=max(usage.input_tokens - less, 0), price=price)

    assert bound <= cost(usage, price).nano


@given(usages(), prices())
def test_the_breakdown_adds_up_to_the_charge(usage, price):
    charged = cost(usage, price)

    assert abs(sum(charged.breakdown.values()) - Decimal(charged.nano) / 10**9) <= Decimal("5e-10")
