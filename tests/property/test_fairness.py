"""Shares of the workers: fair by weight, and nothing idle that somebody wants."""

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.fairness import Demand, windows

demands = st.dictionaries(
    st.integers(0, 20),
    st.builds(Demand, weight=st.integers(1, 100), wanted=st.integers(1, 10_000)),
    min_size=1,
    max_size=8,
)
totals = st.integers(16, 2000)


@given(totals, demands)
def test_nobody_goes_without(total: int, wanted: dict[int, Demand]) -> None:
    assert all(1 <= window <= total for window in windows(total, wanted).values())


@given(totals, demands)
def test_what_is_wanted_is_dealt_out(total: int, wanted: dict[int, Demand]) -> None:
    dealt = windows(total, wanted)

    used = sum(min(dealt[key], demand.wanted) for key, demand in wanted.items())

    # Less than one is lost to rounding for each of them.
    assert used >= min(total, sum(demand.wanted for demand in wanted.values())) - len(wanted)
    assert used <= total + len(wanted)


@given(totals, demands)
def test_whoever_gets_less_than_it_wants_gets_no_less_by_weight_than_another(
    total: int, wanted: dict[int, Demand]
) -> None:
    dealt = windows(total, wanted)

    for key, demand in wanted.items():
        if dealt[key] < demand.wanted:
            for other, window in dealt.items():
                assert window <= (dealt[key] + 1) / demand.weight * wanted[other].weight + 1


@given(totals, demands, st.integers(1, 15))
def test_few_are_not_kept_waiting_by_many(total: int, others: dict[int, Demand], few: int) -> None:
    """As many as its part of the whole: a tenant of the same weight has its own at once."""
    part = total // (sum(demand.weight for demand in others.values()) + 1)

    dealt = windows(total, {**others, -1: Demand(weight=1, wanted=few)})

    assert dealt[-1] >= min(few, part)


def test_lone_tenant_has_it_all() -> None:
    assert windows(100, {"acme": Demand(weight=1, wanted=10_000)}) == {"acme": 100}


def test_weights_count_among_those_who_want_more() -> None:
    wanted = {
        "acme": Demand(weight=3, wanted=500),
        "globex": Demand(weight=1, wanted=500),
        "small": Demand(weight=1, wanted=10),
    }

    dealt = windows(90, wanted)

    assert (dealt["acme"], dealt["globex"]) == (60, 20)
