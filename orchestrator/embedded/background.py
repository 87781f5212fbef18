"""`make up` and `make down`: a supervisor that outlives the terminal, and its end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from orchestrator.embedded import commands
from orchestrator.embedded.errors import EmbeddedError
from orchestrator.embedded.leftovers import end_leftovers
from orchestrator.embedded.state import (
    Home,
    State,
    is_serving,
    read_state,
    supervising,
    supervisor_pid,
    write_state,
)

START_SECONDS = 180.0
STOP_SECONDS = 60.0
POLL_SECONDS = 0.1


def up(home: Home) -> State:
    """Return once everything serves. What the supervisor says meanwhile goes to standard error."""
    home.prepare()
    log = home.logs / "supervisor.log"
    if supervisor_pid(home) is not None:
        wait_until(lambda: is_serving(home), seconds=START_SECONDS)
        return read_state(home)
    log.write_text("")
    process = spawn_supervisor(home, log=log)
    with log.open() as said:
        wait_until(lambda: has_started(home, process, said=said), seconds=START_SECONDS)
    if process.poll() is not None:
        raise SystemExit(process.returncode)
    return read_state(home)


def spawn_supervisor(home: Home, *, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "orchestrator.embedded", "--home", home.path, "run-servers"],
            cwd=commands.REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def has_started(home: Home, process: subprocess.Popen[bytes], *, said: TextIO) -> bool:
    ended = process.poll() is not None
    sys.stderr.write(said.read())
    return ended or is_serving(home)


def down(home: Home) -> bool:
    """Stop everything that runs from `home`; False if nothing did.

    Also finds what a supervisor that was killed has left running.
    """
    if not home.path.exists():
        return False
    pid = supervisor_pid(home)
    if pid is not None:
        stop_supervisor(home, pid)
    with supervising(home):
        left = end_leftovers(home)
        write_state(home, State(ports=read_state(home).ports))
        home.env_file.unlink(missing_ok=True)
    return pid is not None or bool(left)


def stop_supervisor(home: Home, pid: int) -> None:
    try:
        os.kill(pid, signal.SIGTERM)
    except PermissionError:
        raise EmbeddedError(
            f"Muster was started by another user (process {pid}); stop it as that user."
        ) from None
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: supervisor_pid(home) != pid, seconds=STOP_SECONDS)
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: supervisor_pid(home) != pid, seconds=STOP_SECONDS)


def wait_until(condition: Callable[[], bool], *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"Muster took longer than {seconds:.0f} s.")
        time.sleep(POLL_SECONDS)
