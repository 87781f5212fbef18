"""The scripts on the server and the model decide alike, whatever comes."""

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from orchestrator.core.limits import Counting, LimitedScope, Period, Tier, Unit
from tests.limiters import START, OnServer, ask, model, scope, server, tier

UNITS = (Unit.REQUESTS, Unit.INPUT, Unit.OUTPUT)
DAY_US = 86_400_000_000
DAYS = tuple(START - START % DAY_US + day * DAY_US for day in (-1, 0, 1, 2))
CALLS = 15
# Few meet each other often; of many not all are looked at by those behind.
WAITERS = (8, 8, 8, 80)
FORWARD = (1_000, 55_000, 500_000, 2_000_000, 31_000_000)
BACK = (-3_600_000_000, -500_000, -10_000)

Step = tuple[Any, ...]


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

    def play(self, step: Step) -> Any:
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
            case "pause" | "lower" as name, at, *given:
                return getattr(self.limiter, name)(self.scopes[at], *given, self.now)
            case name, *given:
                return getattr(self.limiter, name)(*given, self.now)
        raise AssertionError(step)


def a_tier(chance: Random) -> Tier:
    kind = chance.random()
    if kind < 0.2:
        return tier(Unit.CONCURRENT, chance.randint(1, 4))
    if kind < 0.4:
        counting = chance.choice([Counting.CALENDAR, Counting.BUCKET])
        limit = chance.randint(1, 20)
        return tier(Unit.REQUESTS, limit, per=Period.DAY, counting=counting, days=DAYS)
    return tier(
        chance.choice(UNITS),
        chance.randint(1, 40),
        per=chance.choice([Period.SECOND, Period.MINUTE]),
        capacity=chance.randint(1, 60),
        counting=chance.choice([Counting.BUCKET, Counting.BUCKET, Counting.WINDOW]),
    )


def amounts(chance: Random) -> dict[Unit, int]:
    more = {unit: chance.randint(0, 30) for unit in UNITS[1:] if chance.random() < 0.6}
    return {Unit.REQUESTS: 1, **more}


def a_step(chance: Random, scopes: int, waiters: int) -> Step:
    call = chance.randint(0, CALLS)
    at = chance.randrange(scopes)
    steps: dict[Callable[[], Step], int] = {
        lambda: (
            *("admit", call, chance.randint(0, waiters), chance.choice("ab")),
            *(chance.randint(1, 3), amounts(chance)),
        ): 45,
        lambda: ("wait", chance.choice(FORWARD)): 20,
        lambda: ("wait", chance.choice(BACK)): 5,
        lambda: ("settle", f"c{call}", amounts(chance)): 10,
        lambda: ("release", f"c{call}"): 6,
        lambda: ("leave", [f"w{chance.randint(0, waiters)}" for _ in range(2)]): 4,
        lambda: ("renew", [f"c{call}", f"c{chance.randint(0, CALLS)}"]): 4,
        lambda: ("pause", at, chance.choice([0.5, 3.0])): 4,
        lambda: ("lower", at, chance.choice(UNITS), chance.randint(0, 20)): 6,
    }
    (chosen,) = chance.choices(list(steps), list(steps.values()))
    return chosen()


@pytest.fixture(scope="module")
def on_server() -> Iterator[Callable[..., OnServer]]:
    with server() as fresh:
        yield fresh


# Drawing each step would take ten times as long as playing it.
@given(st.integers(0, 2**32))
@hypothesis_settings(max_examples=200)
def test_server_decides_as_the_model_does(on_server: Callable[..., OnServer], seed: int) -> None:
    chance = Random(seed)
    scopes = []
    for number in range(chance.randint(1, 3)):
        own = [a_tier(chance) for _ in range(chance.randint(0, 4))]
        scopes.append(scope(*{one.key: one for one in own}.values(), key=f"s{number}"))
    both = Player(model(), scopes), Player(on_server(), scopes)

    waiters = chance.choice(WAITERS)
    for number in range(chance.randint(20, 60 + 2 * waiters)):
        step = a_step(chance, len(scopes), waiters)
        expected, found = (player.play(step) for player in both)
        assert found == expected, (number, step)
