"""`make demo ONCE=1`: everything from an empty directory to a finished run, and away again."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from orchestrator.embedded.commands import REPOSITORY, read_env_file
from orchestrator.embedded.leftovers import end_leftovers, leftovers
from orchestrator.embedded.state import Home, read_state
from tests.e2e.programs import CLEAN
from tests.eventually import eventually

STEPS = {"outline", "background", "findings", "outlook", "report", "summary"}
# What scripts read from the last line.
TYPES = {
    "run_id": str,
    "status": str,
    "steps": dict,
    "llm_calls": int,
    "input_tokens": int,
    "output_tokens": int,
    "output_chars": int,
    "model": str,
    "workers": list,
    "cost_usd": str,
    "duration_s": float,
}
AT_WORK = "SELECT worker FROM agent_run WHERE status = 'running' AND uses_model"
LOST = "SELECT worker FROM attempt WHERE outcome = 'lost'"

ALONE = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")

# A minute where nothing else runs, more where much does.
pytestmark = pytest.mark.timeout(300)


@dataclass(frozen=True, slots=True)
class Demo:
    home: Home
    process: subprocess.Popen[str]

    def result(self) -> dict[str, Any]:
        """The last line on stdout, after everything has stopped by itself."""
        said, progress = self.process.communicate(timeout=200)
        assert self.process.returncode == 0, progress
        found: dict[str, Any] = json.loads(said.splitlines()[-1])
        return found

    def column(self, sql: str) -> list[str]:
        """What the database says, which is not there at first."""
        url = read_env_file(self.home.env_file).get("SYSTEM_DATABASE_URL", "")
        try:
            with psycopg.connect(url, connect_timeout=3) as connection:
                return [row[0] for row in connection.execute(sql)]
        except psycopg.Error:
            return []

    def kill(self, worker: str) -> None:
        name = worker.partition("@")[0]
        os.kill(int(read_state(self.home).processes[name]["pid"]), signal.SIGKILL)


@contextmanager
def running(home: Home, *before: str) -> Iterator[Demo]:
    command = [sys.executable, "-m", "orchestrator.embedded", "--home", home.path, "demo", "--once"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*before, *command], cwd=REPOSITORY, env=CLEAN, stdout=pipe, stderr=pipe, text=True
    ) as process:
        try:
            yield Demo(home, process)
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=30)
            process.kill()
            end_leftovers(home)


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    with running(Home(tmp_path / "a home")) as started:
        yield started


@pytest.fixture
def offline_demo(tmp_path: Path) -> Iterator[Demo]:
    """In a network of its own that leads nowhere, where the machine lets us have one."""
    is_allowed = subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode == 0
    with running(Home(tmp_path / "a home"), *(ALONE if is_allowed else ())) as started:
        yield started


def test_demo_runs_offline_on_the_real_model_and_leaves_nothing_behind(
    offline_demo: Demo,
) -> None:
    demo = offline_demo

    result = demo.result()

    assert {name: type(value) for name, value in result.items()} == TYPES
    assert result["status"] == "completed"
    assert result["steps"] == dict.fromkeys(STEPS, "completed")
    assert len(result["workers"]) >= 2
    assert result["llm_calls"] == 5
    assert result["model"] == "smollm2"
    assert min(result["input_tokens"], result["output_tokens"]) > 0
    assert result["output_chars"] > 100
    assert leftovers(demo.home) == set()


def test_demo_completes_although_a_worker_dies_at_work(demo: Demo) -> None:
    worker, *_ = eventually(lambda: demo.column(AT_WORK), within=90)
    demo.kill(worker)
    lost = eventually(lambda: demo.column(LOST), within=60)

    result = demo.result()

    assert set(lost) == {worker}
    assert result["status"] == "completed"
    assert result["steps"] == dict.fromkeys(STEPS, "completed")
    assert leftovers(demo.home) == set()
