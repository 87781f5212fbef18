from typing import Any

import pytest

from orchestrator.core.expectation import History, Likely, StepHistory, drawn, expectation
from orchestrator.core.parsing import spec_from_mapping
from orchestrator.core.plan import Plan, compile_plan
from orchestrator.core.prices import Amounts, PlanPrice, StepPrice

SECONDS = {"a": 1.0, "b": 5.0, "c": 2.0, "d": 3.0}
# b is slow and d needs only c, so that waiting for levels costs time.
NEEDS = {"a": [], "b": ["a"], "c": ["a"], "d": ["c"]}


def plan_of(strategy: str) -> Plan:
    steps = {
        name: {"agent": {"type": "aggregator"}, "needs": needs} for name, needs in NEEDS.items()
    }
    return compile_plan(spec_from_mapping({"name": "x", "strategy": strategy, "steps": steps}), {})


def price(*costly: str) -> PlanPrice:
    steps = [
        StepPrice(
            name=name,
            kind="agent",
            provider=None,
            model=None,
            runs="always",
            amounts=Amounts(worst=9 if name in costly else 0),
        )
        for name in NEEDS
    ]
    return PlanPrice(steps=tuple(steps), amounts=Amounts())


def step(*samples: int, seconds: float | None = None) -> StepHistory:
    likely = Likely(count=1, mean_nano=0, p50_nano=0, p95_nano=0, p50_seconds=seconds)
    return StepHistory(likely=likely, seen=len(samples), samples=samples)


def history(**more: Any) -> History:
    return History(steps={n: step(3, 3, seconds=s) for n, s in SECONDS.items()}, **more)


@pytest.mark.parametrize(
    ("strategy", "seconds", "path"),
    [
        ("adaptive", 6.0, ("a", "b")),
        ("levels", 9.0, ("a", "b", "d")),
        ("sequential", 11.0, ("a", "b", "c", "d")),
    ],
)
def test_time_is_that_of_the_strategy(strategy: str, seconds: float, path: tuple[str, ...]) -> None:
    found = expectation(plan_of(strategy), price(), history())

    assert (found.seconds, found.critical_path) == (seconds, path)


def test_percentiles_of_a_sum_are_not_the_sums_of_percentiles() -> None:
    # One time in ten a step costs 100 times as much: 20 of them seldom do so together.
    found = drawn([(1,) * 9 + (100,)] * 20)

    assert found.mean_nano == 20 * 109 // 10
    assert 20 < found.p50_nano < found.p95_nano < 20 * 55


def test_costs_of_many_steps_are_drawn_in_no_time_and_stray_little() -> None:
    found = drawn([tuple(range(100))] * 10_000)

    assert found.mean_nano == 495_000
    assert abs(found.p95_nano - found.p50_nano) < 0.02 * found.mean_nano


def test_nothing_is_expected_while_a_costly_step_has_no_history() -> None:
    known = History(steps={name: step(3) for name in "abc"})

    found = expectation(plan_of("levels"), price("a", "d"), known)

    assert (found.method, found.total, found.missing) == (None, None, ("d",))


def test_steps_that_cost_nothing_need_no_history() -> None:
    known = History(steps={"a": step(3, 3)})

    found = expectation(plan_of("levels"), price("a"), known)

    assert found.total is not None
    assert (found.method, found.total.mean_nano, found.missing) == ("draws", 3, ())
