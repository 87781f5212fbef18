"""Each invariant of a storm over money notices what it is there for."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from orchestrator.chaos.check_money import CHECKS, most_above, most_at_once
from orchestrator.chaos.money_rows import Bucket, MoneyEvidence
from orchestrator.core.limits import Unit

STEP = UUID(int=1)
BUCKET = Bucket(unit=Unit.REQUESTS, per_second=1, capacity=2)
SEEN = {
    **{"limit_nano": 100, "spent_nano": 20, "held_nano": 0, "overrun_nano": 0},
    **{"ledger_nano": 20, "open_nano": 0},
}


def call(made: float, began: float, ended: float, *, attempt: int = 2) -> dict[str, Any]:
    return {
        "id": UUID(int=round(made * 1000) << 80),
        "agent_run_id": STEP,
        "attempt": attempt,
        "status": "closed",
        "cost_nano": 10,
        "output_tokens": 5,
        "most_output": 9,
        "began": began,
        "ended": ended,
    }


@pytest.fixture
def evidence(tmp_path: Path) -> MoneyEvidence:
    """Two calls, the second after a wait for the budget."""
    log = tmp_path / "caller1.log"
    log.write_text("ready\n")
    return MoneyEvidence(
        buckets=[BUCKET],
        places=1,
        samples=[SEEN],
        run={"status": "budget_exceeded", "status_reason": "", "cost_nano": 20},
        calls=[call(1.0, 1.1, 1.9, attempt=1), call(3.0, 3.1, 3.9, attempt=3)],
        attempts={
            STEP: [
                {"number": 1, "outcome": "failed", "began": 0.9, "ended": 2.0},
                {"number": 2, "outcome": "waited", "began": 2.0, "ended": 2.0},
                {"number": 3, "outcome": "completed", "began": 3.0, "ended": 4.0},
            ]
        },
        waits={(STEP, 2): {"reason": "budget", "until": 3.0}},
        load=(0.0, 5.0),
        excused=[],
        places_taken=0,
        logs=[log],
    )


def broken(evidence: MoneyEvidence) -> list[str]:
    return [check.__name__ for check in CHECKS if list(check(evidence))]


def test_nothing_is_wrong_with_exact_figures(evidence: MoneyEvidence) -> None:
    assert broken(evidence) == []


def seen(**fields: int) -> Callable[[MoneyEvidence], MoneyEvidence]:
    return lambda evidence: replace(evidence, samples=[SEEN | fields, SEEN])


BREACHES: dict[str, Callable[[MoneyEvidence], MoneyEvidence]] = {
    "budget_is_never_exceeded": seen(overrun_nano=1),
    "run_stops_at_its_budget": lambda evidence: replace(
        evidence, run={**evidence.run, "status": "completed"}
    ),
    "spent_equals_ledger": seen(ledger_nano=19),
    "holds_are_of_open_calls": seen(held_nano=1),
    "no_window_is_above_its_bound": lambda evidence: replace(
        evidence, buckets=[replace(BUCKET, capacity=0)]
    ),
    "no_place_is_given_twice": lambda evidence: replace(evidence, places=0),
    "places_are_given_back": lambda evidence: replace(evidence, places_taken=1),
    "nobody_with_budget_is_denied_for_long": lambda evidence: replace(
        evidence, waits={(STEP, 2): {"reason": "budget", "until": 12.5}}
    ),
    "limits_let_calls_through": lambda evidence: replace(evidence, load=(0.0, 20.0)),
}


@pytest.mark.parametrize("name", BREACHES)
def test_a_breach_is_noticed(evidence: MoneyEvidence, name: str) -> None:
    assert broken(BREACHES[name](evidence)) == [name]


def test_an_error_that_was_not_foreseen_is_noticed(evidence: MoneyEvidence) -> None:
    evidence.logs[0].write_text("agent_run_broke\n")

    assert broken(evidence) == ["callers_foresaw_everything"]


def test_windows_count_what_was_let_through_in_them_for_certain(evidence: MoneyEvidence) -> None:
    within = replace(evidence, calls=[call(1.0, 1.2, 2.0)] * 3)
    around = replace(evidence, calls=[call(0.0, 4.0, 5.0)] * 3)

    assert most_above(within, BUCKET) == pytest.approx(3 - 2 - 0.2)
    assert most_above(around, BUCKET) < 0


def test_calls_that_touch_are_not_at_once(evidence: MoneyEvidence) -> None:
    touching = replace(evidence, calls=[call(1.0, 1.0, 2.0), call(2.0, 2.0, 3.0)])

    assert most_at_once(touching) == 1
