"""Whatever runs spend: who is paused, and who never is."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.velocity import Pace, Spending, together_too_fast, too_fast

PACES = st.builds(Pace, factor=st.integers(2, 100), floor=st.integers(1, 10**12))
USUAL = st.none() | st.integers(0, 10**12)
# Corrections may bring a minute below zero.
SPENT = st.integers(-(10**12), 10**14)


@st.composite
def runs(draw: st.DrawFn) -> list[Spending]:
    facts = draw(st.lists(st.tuples(SPENT, st.booleans(), st.booleans()), max_size=12))
    return [
        Spending(
            tenant_id=UUID(int=0),
            run_id=UUID(int=number),
            workflow_id=UUID(int=0),
            spent=spent,
            is_going=going,
            is_judged=judged,
        )
        for number, (spent, going, judged) in enumerate(facts)
    ]


@given(runs(), PACES, USUAL)
def test_no_run_below_the_floor_is_paused_for_itself(
    found: list[Spending], pace: Pace, usual: int | None
) -> None:
    for run in found:
        excess = too_fast(run, pace=pace, usual=usual)
        if excess:
            assert run.spent > pace.floor
            assert run.is_going
            assert run.is_judged


@given(runs(), PACES, USUAL)
def test_pausing_stops_once_the_rest_is_within_the_limit(
    found: list[Spending], pace: Pace, usual: int | None
) -> None:
    limit = pace.tenant_limit(usual)
    together = sum(run.spent for run in found if run.is_judged)

    paused = [excess.run for excess in together_too_fast(found, pace=pace, usual=usual)]

    left = together - sum(run.spent for run in paused)
    could = [r for r in found if r.is_going and r.is_judged and r.spent > 0 and r not in paused]
    assert left <= limit or not could
    assert not paused or left + paused[-1].spent > limit
    assert all(run.spent <= min((p.spent for p in paused), default=0) for run in could if paused)


@given(PACES, st.integers(0, 10**12), st.integers(0, 10**12))
def test_who_usually_spends_more_may_spend_more(pace: Pace, one: int, other: int) -> None:
    less, more = sorted([one, other])

    assert pace.run_limit(less) <= pace.run_limit(more)
    assert pace.tenant_limit(less) <= pace.tenant_limit(more)
    assert pace.tenant_limit(None) <= pace.tenant_limit(less)
