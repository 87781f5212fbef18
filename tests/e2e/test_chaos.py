"""The short storms. `make chaos` runs the long ones, and CONTRIBUTING.md tells what they check."""

import json
import subprocess
import sys
from typing import Any

import pytest

from orchestrator.embedded.commands import REPOSITORY
from tests.e2e.programs import CLEAN

SEED = "20"


@pytest.mark.timeout(300)
def test_every_invariant_holds_after_a_storm() -> None:
    verdict = verdict_of("--short", "--seed", SEED)

    assert verdict["seed"] == int(SEED)
    assert verdict["runs"] >= 30
    assert verdict["kills"] >= 5
    assert verdict["batches"] == 2
    assert verdict["delegated"] >= 5
    assert min(verdict["noise"], verdict["wrong_clocks"], sum(verdict["approvals"].values())) > 0


@pytest.mark.timeout(300)
def test_budgets_and_limits_are_exact_in_a_storm_over_money() -> None:
    verdict = verdict_of("--money", "--short", "--seed", SEED)

    assert verdict["calls"]["closed"] >= 50
    assert min(verdict["told_twice"], verdict["raised_in_time"], verdict["most_at_once"]) > 0
    assert verdict["struck"] == {"kill": 2, "freeze": 1, "wipe": 1, "stale": 1}
    assert verdict["spent_nano"] > 0 == verdict["overspent_nano"]


def verdict_of(*options: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "manage.py", "chaos", *options],
        cwd=REPOSITORY,
        # Addresses that lead nowhere: the storm has servers of its own.
        env={**CLEAN, "DATABASE_URL": "postgres://nobody@127.0.0.1:9/none"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr[-3000:]
    verdict: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    broken = {name: it["detail"] for name, it in verdict["invariants"].items() if not it["ok"]}
    assert broken == {}
    assert (done.returncode, verdict["ok"]) == (0, True)
    return verdict
