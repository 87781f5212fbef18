"""Programs started as an operator starts them, and the site as its users reach it."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from orchestrator.embedded.commands import REPOSITORY
from tests.eventually import eventually

# Another's terminal, not this test session's: no servers, no keys, no settings.
CLEAN = {
    name: value
    for name, value in os.environ.items()
    if not name.endswith(("_URL", "_KEY"))
    and name not in ("PORT", "FLOWER_PORT", "DJANGO_SETTINGS_MODULE")
}
READY_SECONDS = 60.0
STOP_SECONDS = 40.0


@dataclass(frozen=True, slots=True)
class Program:
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def is_running(self) -> bool:
        return self.process.poll() is None

    def ended(self) -> int:
        """Its exit code, once it has ended by itself."""
        try:
            return self.process.wait(STOP_SECONDS)
        finally:
            self.process.kill()
            self.process.wait()

    def stop(self) -> int:
        """Its exit code after TERM, as a container engine or a person ends it."""
        self.process.terminate()
        return self.ended()


def spawn(
    command: Sequence[str | Path],
    *,
    log: Path,
    environment: Mapping[str, str],
    directory: Path = REPOSITORY,
) -> Program:
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    return Program(process, log)


@contextmanager
def serving(program: Program, is_ready: Callable[[], bool]) -> Iterator[Program]:
    """The program while it serves. It ends with the block, if not before."""

    def has_started() -> bool:
        assert program.is_running(), program.said[-3000:]
        return is_ready()

    try:
        eventually(has_started, within=READY_SECONDS)
        yield program
    finally:
        if program.is_running():
            program.stop()


def api(site: str, key: str, **headers: str) -> httpx2.Client:
    """The REST interface over real HTTP, with this key."""
    return httpx2.Client(
        base_url=f"{site}/api/v1/",
        headers={"Authorization": f"Bearer {key}", **headers},
        timeout=30,
        # A proxy is for the world outside.
        trust_env=False,
    )


def made(answer: httpx2.Response) -> Any:
    """The body of an answer that must be a success."""
    assert answer.is_success, answer.text
    return answer.json()


def finished(client: httpx2.Client, run_id: str, *, within: float = 60.0) -> dict[str, Any]:
    """The run as the API shows it, once it has ended."""

    def look() -> dict[str, Any] | None:
        run: dict[str, Any] = made(client.get(f"runs/{run_id}"))
        return run if run["finished_at"] else None

    return eventually(look, within=within)  # type: ignore[return-value]


def manage(*arguments: str, environment: Mapping[str, str] = os.environ) -> str:
    """What a management command prints."""
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=REPOSITORY,
        env=dict(environment),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
