"""The scripts on the server and the model decide alike, whatever comes."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from orchestrator.core.limits import Counting, LimitedScope, Period, Unit
from tests.limiters import START, OnServer, ask, model, scope, server, tier

UNITS = (Unit.REQUESTS, Unit.INPUT, Unit.OUTPUT)
DAYS = tuple(START - START % 86_400_000_000 + day * 86_400_000_000 for day in (-1, 0, 1, 2))

rates = st.builds(
    lambda unit, limit, per, capacity, counting: tier(
        unit, limit, per=per, capacity=capacity, counting=counting, days=DAYS
    ),
    st.sampled_from(UNITS),
    st.integers(1, 40),
    st.sampled_from([Period.SECOND, Period.MINUTE]),
    st.integers(1, 60),
    st.sampled_from([Counting.BUCKET, Counting.BUCKET, Counting.WINDOW]),
)
daily = st.builds(
    lambda limit, counting: tier(
        Unit.REQUESTS, limit, per=Period.DAY, counting=counting, days=DAYS
    ),
    st.integers(1, 20),
    st.sampled_from([Counting.CALENDAR, Counting.BUCKET]),
)
places = st.builds(lambda limit: tier(Unit.CONCURRENT, limit), st.integers(1, 4))
tiers = st.lists(st.one_of(rates, rates, daily, places), max_size=4, unique_by=lambda one: one.key)


@st.composite
def histories(draw: Any) -> tuple[list[LimitedScope], list[tuple[Any, ...]]]:
    scopes = [scope(*draw(tiers), key=f"s{number}") for number in range(draw(st.integers(1, 3)))]
    steps = draw(st.lists(st.one_of(*_steps(len(scopes))), min_size=20, max_size=70))
    return scopes, steps


def _steps(scopes: int) -> list[Any]:
    calls = st.integers(0, 15)
    amounts = st.fixed_dictionaries(
        {Unit.REQUESTS: st.just(1)},
        optional={Unit.INPUT: st.integers(0, 30), Unit.OUTPUT: st.integers(0, 30)},
    )
    admit = st.tuples(
        st.just("admit"),
        calls,
        st.integers(0, 8),
        st.sampled_from("ab"),
        st.integers(1, 3),
        amounts,
    )
    return [
        admit,
        admit,
        admit,
        st.tuples(
            st.just("wait"), st.sampled_from([1_000, 55_000, 500_000, 2_000_000, 31_000_000])
        ),
        st.tuples(st.just("wait"), st.sampled_from([-3_600_000_000, -500_000, -10_000])),
        st.tuples(st.just("settle"), calls, amounts),
        st.tuples(st.just("release"), calls),
        st.tuples(st.just("renew"), st.lists(calls, max_size=3)),
        st.tuples(st.just("pause"), st.integers(0, scopes - 1), st.sampled_from([0.5, 3.0])),
        st.tuples(
            st.just("lower"),
            st.integers(0, scopes - 1),
            st.sampled_from(UNITS),
            st.integers(0, 20),
        ),
    ]


class Player:
    """Does the steps of a history to one limiter, and notes what it says."""

    def __init__(self, limiter: Any, scopes: list[LimitedScope]) -> None:
        self.limiter = limiter
        self.scopes = scopes
        self.now = START
        limiter.open(self.now, idle_us=3_600_000_000)
        for one in scopes:
            for each in one.tiers:
                if each.is_long:
                    limiter.seed(one, each, 2.0, self.now)

    def play(self, step: tuple[Any, ...]) -> Any:
        match step:
            case "admit", call, waiter, tenant, weight, amounts:
                asked = ask(
                    *self.scopes,
                    call_id=f"c{call}",
                    waiter=f"w{waiter}",
                    tenant=tenant,
                    weight=weight,
                    amounts=amounts,
                )
                return self.limiter.admit(asked, self.now)
            case "wait", time:
                self.now += time
                return None
            case "settle", call, used:
                return self.limiter.settle(f"c{call}", used, self.now)
            case "release", call:
                return self.limiter.release(f"c{call}", self.now)
            case "renew", calls:
                return self.limiter.renew([f"c{call}" for call in calls], self.now)
            case "pause", at, seconds:
                return self.limiter.pause(self.scopes[at], seconds, self.now)
            case "lower", at, unit, left:
                return self.limiter.lower(self.scopes[at], unit, left, self.now)
        raise AssertionError(step)


@pytest.fixture(scope="module")
def on_server() -> Iterator[Callable[..., OnServer]]:
    with server() as fresh:
        yield fresh


@given(histories())
@hypothesis_settings(max_examples=120)
def test_server_decides_as_the_model_does(
    on_server: Callable[..., OnServer], history: tuple[list[LimitedScope], list[Any]]
) -> None:
    scopes, steps = history
    both = Player(model(), scopes), Player(on_server(), scopes)
    for number, step in enumerate(steps):
        expected, found = (player.play(step) for player in both)
        assert found == expected, (number, step)
