"""The short storm. `make chaos` runs the long one, and CONTRIBUTING.md tells what it checks."""

import json
import subprocess
import sys

import pytest

from orchestrator.embedded.commands import REPOSITORY
from tests.e2e.programs import CLEAN

SEED = "20"


@pytest.mark.timeout(300)
def test_every_invariant_holds_after_a_storm() -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "chaos", "--short", "--seed", SEED],
        cwd=REPOSITORY,
        # Addresses that lead nowhere: the storm has servers of its own.
        env={**CLEAN, "DATABASE_URL": "postgres://nobody@127.0.0.1:9/none"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout, done.stderr[-3000:]
    verdict = json.loads(done.stdout.splitlines()[-1])
    assert {
        name: told["detail"] for name, told in verdict["invariants"].items() if not told["ok"]
    } == {}
    assert done.returncode == 0
    assert verdict["ok"]
    assert verdict["seed"] == int(SEED)
    assert verdict["runs"] >= 30
    assert verdict["kills"] >= 5
    assert verdict["batches"] == 2
    assert min(verdict["noise"], verdict["wrong_clocks"], sum(verdict["approvals"].values())) > 0
