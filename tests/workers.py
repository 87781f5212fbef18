"""Real worker processes for tests, ended by their own pid."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Worker:
    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        """As a power cut would: no goodbye, no clean-up."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.kill()


@contextmanager
def worker(
    name: str,
    queues: str,
    log_dir: Path,
    *,
    concurrency: int = 8,
    inside: Sequence[str] = (),
    **environment: str,
) -> Iterator[Worker]:
    """A Celery worker on the threads pool, ready to work; `inside` begins its command line."""
    log = log_dir / f"{name}.log"
    command = [
        *inside,
        *(sys.executable, "-m", "celery", "-A", "orchestrator.celery", "worker"),
        *("-P", "threads", "-c", str(concurrency), "-Q", queues, "-n", f"{name}@test"),
        *("--without-gossip", "--without-mingle", "-l", "INFO"),
    ]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "LOG_LEVEL": "INFO", **environment},
        )
    started = Worker(name, process, log)
    try:
        _wait_until_ready(started)
        yield started
    finally:
        started.stop()


def _wait_until_ready(started: Worker) -> None:
    deadline = time.monotonic() + 60
    while "ready." not in started.log.read_text(errors="replace"):
        if started.process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"worker {started.name}:\n{started.log.read_text()[-3000:]}")
        time.sleep(0.05)


def agents(name: str, log_dir: Path, **options: object):
    return worker(name, "agents.high,agents,agents.low,tools.cpu", log_dir, **options)


def control(name: str, log_dir: Path, **options: object):
    return worker(name, "control", log_dir, concurrency=4, **options)
