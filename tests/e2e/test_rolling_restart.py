"""All workers are replaced, one after the other, while runs go through."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from orchestrator.models import AgentRun, WorkflowVersion
from orchestrator.services.runs import start_run
from orchestrator.services.workflows import publish_spec
from tests import workers
from tests.background import repeatedly
from tests.e2e.stories import ended, simulated
from tests.workers import Worker
from tests.world import World

CALL_SECONDS = 0.5
STEPS = ("a", "b", "c", "d")
PAUSE_SECONDS = 0.2
# Beyond the time in which a single control worker ends and the next one starts.
MOST_SECONDS = 3.0


class Crew:
    """Two agent workers and the control worker, each replaced by its next generation."""

    def __init__(self, log_dir: Path) -> None:
        self._log_dir = log_dir
        self._generation = 0
        self._living: dict[str, Any] = {}
        self.longest_gap = 0.0

    def __enter__(self) -> "Crew":
        for role in ("control", "agents-1", "agents-2"):
            self._start(role)
        return self

    def __exit__(self, *_: object) -> None:
        for manager, _worker in self._living.values():
            manager.__exit__(None, None, None)

    def replace_all(self) -> None:
        self._generation += 1
        for role, (_, old) in list(self._living.items()):
            began = time.monotonic()
            old.process.terminate()
            assert old.process.wait(30) == 0
            self._start(role)
            self.longest_gap = max(self.longest_gap, time.monotonic() - began)

    def _start(self, role: str) -> None:
        make = workers.control if role == "control" else workers.agents
        manager = make(f"{role}-{self._generation}", self._log_dir)
        worker: Worker = manager.__enter__()
        self._living[role] = (manager, worker)


def chain(strategy: str) -> dict[str, Any]:
    steps = {STEPS[0]: simulated("go", latency=CALL_SECONDS)}
    for need, step in pairwise(STEPS):
        steps[step] = simulated("go", [need], latency=CALL_SECONDS)
    return {"muster": 1, "name": f"chain-{strategy}", "strategy": strategy, "steps": steps}


@contextmanager
def load(world: World) -> Iterator[list[UUID]]:
    """Somebody starts a run at short intervals."""
    with world.scope():
        versions = [
            publish_spec(project=world.project, spec=chain(strategy))
            for strategy in ("levels", "adaptive")
        ]
    runs: list[UUID] = []

    def start_one() -> None:
        runs.append(started(world, versions[len(runs) % 2]))

    with repeatedly(start_one, every=PAUSE_SECONDS):
        yield runs


def started(world: World, version: WorkflowVersion) -> UUID:
    with world.scope():
        return start_run(workflow=version.workflow, version=version, input={}).id


def delays(world: World, run_id: UUID) -> Iterator[tuple[float, str]]:
    """How much longer each step took than its call, from when all that it needs was there."""
    run = ended(world, run_id)
    assert run.status == "completed"
    due = run.created_at
    with world.scope():
        for step in AgentRun.objects.filter(run=run).order_by("step"):
            yield (step.finished_at - due).total_seconds() - CALL_SECONDS, f"{run_id} {step.step}"
            due = step.finished_at


@pytest.mark.usefixtures("live_db")
def test_rolling_restart_of_all_workers_delays_no_step_by_much(
    acme: World, log_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Crew(log_dir) as crew:
        with load(acme) as runs:
            crew.replace_all()
            crew.replace_all()
        found = sorted(delay for run_id in runs for delay in delays(acme, run_id))

    worst, median = found[-1], found[len(found) // 2]
    with capsys.disabled():
        print(  # noqa: T201 - a figure for whoever asks how much
            f"\nrolling restart, {len(runs)} runs: steps {median[0]:.2f} s late (median), "
            f"{worst[0]:.2f} s (worst); a process was away for {crew.longest_gap:.2f} s"
        )
    assert worst[0] < crew.longest_gap + MOST_SECONDS, found[-8:]
