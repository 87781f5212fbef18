"""What counts as far above the usual."""

from uuid import UUID

import pytest

from orchestrator.core.velocity import (
    ENOUGH_MINUTES,
    Pace,
    Spending,
    together_too_fast,
    too_fast,
    usual_of_tenant,
    usual_of_workflow,
)

USD = 10**9
PACE = Pace(factor=10, floor=USD)


def spending(number: int = 1, *, spent: int, going: bool = True, judged: bool = True) -> Spending:
    return Spending(
        tenant_id=UUID(int=0),
        run_id=UUID(int=number),
        workflow_id=UUID(int=0),
        spent=spent,
        is_going=going,
        is_judged=judged,
    )


@pytest.mark.parametrize(
    ("usual", "limit"),
    [(None, 10 * USD), (0, USD), (USD // 20, USD), (USD // 10 + 1, USD + 10), (3 * USD, 30 * USD)],
)
def test_run_may_spend_many_times_the_usual_and_the_floor_at_least(
    usual: int | None, limit: int
) -> None:
    assert too_fast(spending(spent=limit), pace=PACE, usual=usual) is None

    excess = too_fast(spending(spent=limit + 1), pace=PACE, usual=usual)

    assert excess is not None
    assert (excess.limit, excess.usual) == (limit, usual)


@pytest.mark.parametrize("state", [{"going": False}, {"judged": False}])
def test_run_that_does_not_go_or_was_agreed_to_is_left_alone(state: dict[str, bool]) -> None:
    assert too_fast(spending(spent=99 * USD, **state), pace=PACE, usual=0) is None


@pytest.mark.parametrize(
    ("busiest", "usual"),
    [([], None), ([5, 5], None), ([1, 900, 2], 2), ([1, 2, 3, 4], 2), ([0, 0, 0], 0)],
)
def test_one_wild_run_does_not_make_it_usual(busiest: list[int], usual: int | None) -> None:
    assert usual_of_workflow(busiest) == usual


def test_few_minutes_say_nothing_of_a_tenant() -> None:
    assert usual_of_tenant(7, minutes=ENOUGH_MINUTES - 1) is None
    assert usual_of_tenant(7, minutes=ENOUGH_MINUTES) == 7


def test_dearest_runs_of_a_tenant_are_paused_and_cheap_ones_go_on() -> None:
    runs = [spending(n, spent=spent * USD) for n, spent in enumerate([1, 9, 4, 2])]

    paused = together_too_fast(runs, pace=PACE, usual=None)

    assert [excess.run.spent // USD for excess in paused] == [9]
    assert paused[0].spent == 16 * USD


def test_what_has_ended_counts_and_what_was_agreed_to_does_not() -> None:
    ended = [spending(n, spent=USD, going=False) for n in range(10)]
    agreed = spending(98, spent=50 * USD, judged=False)
    going = spending(99, spent=USD)

    assert together_too_fast([*ended, agreed], pace=PACE, usual=None) == []
    paused = together_too_fast([*ended, agreed, going], pace=PACE, usual=None)

    assert [excess.run for excess in paused] == [going]


def test_busy_tenant_may_spend_many_times_its_median_minute() -> None:
    runs = [spending(n, spent=20 * USD) for n in range(3)]

    assert together_too_fast(runs, pace=PACE, usual=6 * USD) == []
    assert len(together_too_fast(runs, pace=PACE, usual=5 * USD)) == 1


def test_reason_gives_the_figures_and_says_what_to_do() -> None:
    known = too_fast(spending(spent=12 * USD), pace=PACE, usual=USD // 4)
    new = too_fast(spending(spent=12 * USD), pace=PACE, usual=None)
    (shared,) = together_too_fast([spending(spent=12 * USD)], pace=PACE, usual=None)

    assert known is not None
    assert new is not None
    assert known.reason == (
        "It spent 12 USD in the last minute, and more than 2.5 USD asks for a person's yes, since "
        "0.25 USD are usual. Resume it if that is right, or cancel it"
    )
    assert "more than 10 USD asks for a person's yes as long as little is known" in new.reason
    assert shared.reason.startswith(
        "The tenant's runs spent 12 USD in the last minute, this one 12"
    )
