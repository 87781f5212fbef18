"""What the limiter promises, held against the model and against the scripts on the server."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from orchestrator.core.limits import Counting, Period, Unit
from orchestrator.core.limits.model import Status
from tests.limiters import LEASE_US, START, ask, model, scope, server, tier

SECOND = 1_000_000
EMPTY_FOR_AGES = 10**15
few = hypothesis_settings(max_examples=60)


@pytest.fixture(scope="module", params=["model", "server"])
def fresh(request: pytest.FixtureRequest) -> Iterator[Callable[[], Any]]:
    """Makes a limiter that is open and knows of no call."""
    with server() as on_server:
        make: Callable[[], Any] = model if request.param == "model" else on_server

        def opened() -> Any:
            limiter = make()
            limiter.open(START, idle_us=EMPTY_FOR_AGES)
            return limiter

        yield opened


# Microseconds between two events, bursts included.
gaps = st.lists(st.sampled_from([0, 1, 700, 50_000, 400_000, 3 * SECOND]), max_size=60)


@few
@given(st.integers(1, 30), st.integers(1, 30), gaps, st.lists(st.integers(1, 12), min_size=1))
def test_no_window_of_time_is_granted_more_than_its_refill_and_the_capacity(
    fresh: Callable[[], Any], limit: int, capacity: int, pauses: list[int], sizes: list[int]
) -> None:
    limiter = fresh()
    bucket = scope(tier(Unit.INPUT, limit, per=Period.SECOND, capacity=capacity))
    granted: list[tuple[int, int]] = []
    now = START
    for number, pause in enumerate(pauses):
        now += pause
        size = sizes[number % len(sizes)]
        verdict = limiter.admit(ask(bucket, amounts={Unit.INPUT: size}), now)
        if verdict.status is Status.GRANTED:
            granted.append((now, size))

    for first, (begin, _) in enumerate(granted):
        total = 0
        for end, size in granted[first:]:
            total += size
            assert total <= limit * (end - begin) / SECOND + capacity + 1e-6


@few
@given(st.integers(1, 20), st.sampled_from([Period.SECOND, Period.MINUTE]), gaps)
def test_no_clock_window_is_granted_more_than_its_limit(
    fresh: Callable[[], Any], limit: int, per: Period, pauses: list[int]
) -> None:
    limiter = fresh()
    window = tier(Unit.REQUESTS, limit, per=per, counting=Counting.WINDOW)
    counts: dict[int, int] = {}
    now = START
    for pause in pauses:
        now += pause
        if limiter.admit(ask(scope(window)), now).status is Status.GRANTED:
            counts[now // window.period_us] = counts.get(now // window.period_us, 0) + 1

    assert all(count <= limit for count in counts.values())


@few
@given(st.integers(1, 10), st.lists(st.integers(-SECOND, 2 * SECOND), max_size=40))
def test_clock_that_steps_back_grants_no_more_and_stops_nobody(
    fresh: Callable[[], Any], limit: int, steps: list[int]
) -> None:
    limiter = fresh()
    bucket = scope(tier(Unit.REQUESTS, limit, per=Period.SECOND))
    now, forward, granted = START, 0, 0
    for step in steps:
        now += step
        forward += max(0, step)
        granted += limiter.admit(ask(bucket), now).status is Status.GRANTED

    assert granted <= limit * forward / SECOND + limit + 1e-6
    # From where it stands a clock of any past goes on to grant, in no more than a second.
    later = now + SECOND + 100_000
    assert limiter.admit(ask(bucket, waiter="new"), later).wait_us <= SECOND * len(steps)


@few
@given(st.integers(1, 4), st.integers(1, 20), st.booleans())
def test_denial_takes_nothing_of_other_limits(
    fresh: Callable[[], Any], allowed: int, denied: int, is_first: bool
) -> None:
    limiter = fresh()
    narrow = scope(tier(Unit.REQUESTS, allowed), key="narrow")
    wide = scope(tier(Unit.REQUESTS, allowed + 5), tier(Unit.CONCURRENT, 1_000), key="wide")
    both = (narrow, wide) if is_first else (wide, narrow)
    for _ in range(allowed):
        assert limiter.admit(ask(*both), START).status is Status.GRANTED
    for _ in range(denied):
        assert limiter.admit(ask(*both), START).status is Status.DENIED

    left = [limiter.admit(ask(wide), START).status for _ in range(6)]

    assert left == [Status.GRANTED] * 5 + [Status.DENIED]
    assert limiter.places_taken("wide", "concurrent::concurrent") == allowed + 5


@few
@given(
    st.integers(1, 5),
    st.lists(
        st.tuples(
            st.sampled_from(["admit", "admit", "settle", "release", "renew", "wait"]),
            st.integers(0, 12),
        ),
        max_size=60,
    ),
)
def test_places_are_never_more_than_the_limit(
    fresh: Callable[[], Any], limit: int, steps: list[tuple[str, int]]
) -> None:
    limiter = fresh()
    places = scope(tier(Unit.CONCURRENT, limit))
    now = START
    for what, number in steps:
        call_id = f"c{number}"
        if what == "admit":
            limiter.admit(ask(places, call_id=call_id, amounts={}), now)
        elif what == "settle":
            limiter.settle(call_id, {}, now)
        elif what == "release":
            limiter.release(call_id, now)
        elif what == "renew":
            limiter.renew([call_id], now)
        else:
            now += number * LEASE_US // 8
        assert limiter.places_taken(places.key, places.tiers[0].key) <= limit


def test_zombie_takes_back_no_place_that_is_anothers(fresh: Callable[[], Any]) -> None:
    limiter = fresh()
    places = scope(tier(Unit.CONCURRENT, 1))
    assert limiter.admit(ask(places, call_id="dead", amounts={}), START).status is Status.GRANTED
    later = START + LEASE_US + 1

    heir = limiter.admit(ask(places, call_id="heir", amounts={}), later)
    limiter.renew(["dead"], later)
    limiter.settle("dead", {}, later)

    assert heir.status is Status.GRANTED
    assert limiter.places_taken(places.key, places.tiers[0].key) == 1
    assert limiter.admit(ask(places, amounts={}), later + 1).status is Status.DENIED


def test_place_is_kept_for_as_long_as_it_is_renewed(fresh: Callable[[], Any]) -> None:
    limiter = fresh()
    places = scope(tier(Unit.CONCURRENT, 1))
    assert limiter.admit(ask(places, call_id="long", amounts={}), START).status is Status.GRANTED
    now = START
    for _ in range(5):
        now += LEASE_US // 3
        limiter.renew(["long"], now)
    assert limiter.admit(ask(places, amounts={}), now).status is Status.DENIED


@few
@given(st.integers(1, 30), st.integers(0, 60), st.integers(1, 3), st.integers(1, 3))
def test_asking_and_settling_twice_counts_once(
    fresh: Callable[[], Any], estimate: int, real: int, asked: int, settled: int
) -> None:
    bucket = scope(tier(Unit.OUTPUT, 60), tier(Unit.CONCURRENT, 5))
    once, often = fresh(), fresh()
    for limiter, again in ((once, (1, 1)), (often, (asked, settled))):
        for _ in range(again[0]):
            call = ask(bucket, call_id="c", amounts={Unit.OUTPUT: estimate})
            assert limiter.admit(call, START).status is Status.GRANTED
        done = [limiter.settle("c", {Unit.OUTPUT: real}, START + 5) for _ in range(again[1])]
        assert done == [True] + [False] * (again[1] - 1)

    probe = [
        limiter.admit(ask(bucket, amounts={Unit.OUTPUT: 60}), START + 5)
        for limiter in (once, often)
    ]
    assert probe[0] == probe[1]


@few
@given(
    st.integers(1, 50),
    st.integers(0, 100),
    st.sampled_from([0, 300_000, 5 * SECOND, 90 * SECOND]),
    st.sampled_from([0, 300_000, 5 * SECOND]),
)
def test_settled_is_as_if_it_had_been_estimated_right(
    fresh: Callable[[], Any], estimate: int, real: int, after: int, later: int
) -> None:
    """Seen by the call that comes next, whenever that is."""
    assume(real > 0)
    bucket = scope(tier(Unit.OUTPUT, 100))
    right, wrong = fresh(), fresh()
    right.admit(ask(bucket, call_id="c", amounts={Unit.OUTPUT: real}), START)
    wrong.admit(ask(bucket, call_id="c", amounts={Unit.OUTPUT: estimate}), START)
    wrong.settle("c", {Unit.OUTPUT: real}, START + after)

    probe = ask(bucket, amounts={Unit.OUTPUT: 100})
    told = [limiter.admit(probe, START + after + later) for limiter in (right, wrong)]
    assert told[0] == told[1]


@few
@given(
    st.lists(
        st.tuples(
            st.integers(1, 60), st.integers(0, 60), st.sampled_from([0, SECOND, 20 * SECOND])
        ),
        min_size=1,
        max_size=15,
    )
)
def test_settling_never_lets_more_through_than_right_estimates(
    fresh: Callable[[], Any], calls: list[tuple[int, int, int]]
) -> None:
    """With calls in between, in the same order: what is given back does not count twice."""
    bucket = scope(tier(Unit.OUTPUT, 60))
    limiter = fresh()
    now, granted, open_calls = START, [], []
    for number, (estimate, real, pause) in enumerate(calls):
        real = min(real, estimate)
        call = ask(bucket, call_id=f"c{number}", amounts={Unit.OUTPUT: estimate})
        if limiter.admit(call, now).status is Status.GRANTED:
            open_calls.append((f"c{number}", now, real))
        now += pause
        if number % 2 and open_calls:
            call_id, at, used = open_calls.pop(0)
            limiter.settle(call_id, {Unit.OUTPUT: used}, now)
            granted.append((at, used))
    granted = sorted(granted + [(at, used) for _, at, used in open_calls])

    for first, (begin, _) in enumerate(granted):
        total = 0
        for end, used in granted[first:]:
            total += used
            assert total <= 60 * (end - begin) / (60 * SECOND) + 60 + 1e-6


too_much = st.integers(1, 50).flatmap(
    lambda limit: st.integers(1, limit).flatmap(
        lambda taken: st.tuples(
            st.just(limit), st.just(taken), st.integers(limit - taken + 1, limit)
        )
    )
)


@few
@given(too_much)
def test_wait_is_honest(fresh: Callable[[], Any], amounts: tuple[int, int, int]) -> None:
    """A little too early is refused again, in time is let through."""
    limit, taken, wanted = amounts
    bucket = scope(tier(Unit.INPUT, limit))
    limiter = fresh()
    limiter.admit(ask(bucket, amounts={Unit.INPUT: taken}), START)
    call = ask(bucket, amounts={Unit.INPUT: wanted})
    told = limiter.admit(call, START)

    assert limiter.admit(call, START + told.wait_us - 2).status is Status.DENIED
    assert limiter.admit(call, START + told.wait_us).status is Status.GRANTED


def test_pause_holds_everybody_and_wakes_them_gently(fresh: Callable[[], Any]) -> None:
    limiter = fresh()
    bucket = scope(tier(Unit.REQUESTS, 10, per=Period.SECOND))
    limiter.pause(bucket, 3.0, START)

    told = [limiter.admit(ask(bucket), START) for _ in range(20)]

    assert {(one.status, one.tier) for one in told} == {(Status.DENIED, None)}
    waits = sorted(one.wait_us for one in told)
    assert waits[0] >= 3 * SECOND
    # None are told the same, and no more at a time than the limit would let through.
    assert min(b - a for a, b in pairwise(waits)) >= 20_000
    at_the_end = [limiter.admit(ask(bucket), START + 3 * SECOND) for _ in range(10)]
    assert not [one for one in at_the_end if one.status is Status.GRANTED]


def test_more_than_there_can_ever_be_is_told_so(fresh: Callable[[], Any]) -> None:
    limiter = fresh()
    verdict = limiter.admit(ask(scope(tier(Unit.INPUT, 5)), amounts={Unit.INPUT: 6}), START)
    assert (verdict.status, verdict.scope, verdict.tier) == (Status.NEVER, 0, 0)


@few
@given(st.integers(0, 20), st.integers(1, 20))
def test_what_the_provider_says_is_left_is_all_there_is(
    fresh: Callable[[], Any], left: int, limit: int
) -> None:
    limiter = fresh()
    bucket = scope(tier(Unit.REQUESTS, limit, per=Period.HOUR))
    limiter.seed(bucket, bucket.tiers[0], 0.0, START)
    limiter.lower(bucket, Unit.REQUESTS, left, START)

    granted = sum(limiter.admit(ask(bucket), START).status is Status.GRANTED for _ in range(limit))

    assert granted == min(left, limit)


@pytest.mark.parametrize(("weight", "share"), [(1, 0.5), (3, 0.75)])
def test_tenants_share_what_both_want_by_their_weights(
    fresh: Callable[[], Any], weight: int, share: float
) -> None:
    """Sixty callers of one tenant beside three of another; each asks again when it was told to."""
    limiter = fresh()
    bucket = scope(tier(Unit.REQUESTS, 20, per=Period.SECOND, capacity=4))
    waits = {(name, n): START for name, many in (("many", 60), ("few", 6)) for n in range(many)}
    calls = dict.fromkeys(waits, 0)
    granted = {"many": 0, "few": 0}
    attempts = 0
    while sum(granted.values()) < 400:
        who = min(waits, key=lambda one: (waits[one], one))
        now = waits[who]
        tenant, number = who
        verdict = limiter.admit(
            ask(
                bucket,
                call_id=f"{tenant}-{number}-{calls[who]}",
                waiter=f"{tenant}-{number}",
                tenant=tenant,
                weight=weight if tenant == "few" else 1,
            ),
            now,
        )
        attempts += 1
        waits[who] = now + max(1, verdict.wait_us)
        if verdict.status is Status.GRANTED:
            calls[who] += 1
            granted[tenant] += 1

    assert granted["few"] / 400 == pytest.approx(share, abs=0.05)


def test_waiters_are_told_times_of_their_own(fresh: Callable[[], Any]) -> None:
    """Two hundred at forty a second: each comes back once, when it is its turn."""
    limiter = fresh()
    bucket = scope(tier(Unit.REQUESTS, 40, per=Period.SECOND))
    waits = dict.fromkeys(range(200), START)
    attempts = 0
    while waits:
        who = min(waits, key=lambda one: (waits[one], one))
        now = waits[who]
        verdict = limiter.admit(ask(bucket, call_id=str(who), waiter=str(who)), now)
        attempts += 1
        if verdict.status is Status.GRANTED:
            del waits[who]
        else:
            waits[who] = now + verdict.wait_us

    assert attempts <= 2 * 200


def test_every_key_lies_in_one_slot_and_runs_out(live_db: None) -> None:
    """Whatever was done: Redis Cluster can hold it, and nothing stays for ever."""
    with server() as on_server:
        limiter = on_server()
        limiter.open(START, idle_us=EMPTY_FOR_AGES)
        full = scope(
            tier(Unit.REQUESTS, 1), tier(Unit.CONCURRENT, 2), tier(Unit.OUTPUT, 9), key="a"
        )
        more = scope(tier(Unit.REQUESTS, 5, per=Period.DAY), key="b")
        limiter.seed(more, more.tiers[0], 1.0, START)
        first = ask(full, more)
        limiter.admit(first, START)
        limiter.admit(ask(full, more, tenant="globex"), START)
        limiter.pause(full, 2.0, START)
        limiter.lower(more, Unit.REQUESTS, 1, START)
        limiter.renew([first.call_id], START)
        limiter.store.flag("budget", 5, seconds=3)
        limiter.store.put_back("back", [("a", "concurrent")], epoch="2")
        limiter.settle(first.call_id, {}, START)

        found = limiter.keys()

        assert len(found) >= 8
        assert all(key.startswith(limiter.tag) for key in found)
        assert [key for key in found if limiter.time_to_live(key) <= 0] == []


def tokens_of(limit: int) -> Any:
    today = START - START % (86_400 * SECOND)
    days = tuple(today + day * 86_400 * SECOND for day in range(3))
    return tier(Unit.TOTAL, limit, per=Period.DAY, counting=Counting.CALENDAR, days=days)


def test_large_call_is_reckoned_with_what_those_ahead_ask_for_and_not_with_its_like(
    fresh: Callable[[], Any],
) -> None:
    limiter = fresh()
    shared = scope(tier(Unit.REQUESTS, 60), tokens_of(200_000))
    limiter.seed(shared, shared.tiers[1], 0, START)
    small, large = ({Unit.REQUESTS: 1, Unit.TOTAL: size} for size in (1_000, 40_000))
    for number in range(110):
        limiter.admit(ask(shared, waiter=f"small{number}", amounts=small), START)

    told = limiter.admit(ask(shared, waiter="large", amounts=large), START)

    assert told.status is Status.DENIED
    assert 45 * SECOND < told.wait_us < 60 * SECOND


def test_who_leaves_the_line_holds_up_nobody(fresh: Callable[[], Any]) -> None:
    limiter = fresh()
    day = scope(tokens_of(100))
    limiter.seed(day, day.tiers[0], 50, START)
    large, small = ({Unit.TOTAL: size} for size in (90, 20))
    assert limiter.admit(ask(day, waiter="large", amounts=large), START).status is Status.DENIED
    told = limiter.admit(ask(day, waiter="small", amounts=small), START)
    assert told.status is Status.DENIED

    limiter.leave(["large", "nobody"], START)

    told = limiter.admit(ask(day, waiter="small", amounts=small), START)
    assert told.status is Status.GRANTED


def test_what_a_day_has_used_is_remembered_beyond_its_limit(fresh: Callable[[], Any]) -> None:
    limiter = fresh()
    lowered, raised = scope(tokens_of(100)), scope(tokens_of(200))
    limiter.seed(lowered, lowered.tiers[0], 150, START)

    for size, expected in ((60, Status.DENIED), (50, Status.GRANTED)):
        one = ask(raised, waiter=f"of {size}", amounts={Unit.TOTAL: size})
        assert limiter.admit(one, START).status is expected
        limiter.leave([f"of {size}"], START)
