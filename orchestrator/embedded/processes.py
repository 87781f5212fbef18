"""Starting and ending the programs that belong to one `.muster` directory.

Every program gets a mark in its environment. What a killed supervisor left behind is found by that
mark among the living; a recorded process id counts only with the birth recorded beside it, so that
a recycled one is never hit.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from orchestrator.embedded.errors import EmbeddedError, ServerDiedError

MARK = "MUSTER_SUPERVISED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One program: how to start it, how to see that it serves, how to end it."""

    name: str
    command: tuple[str, ...]
    directory: Path
    log: Path
    environment: Mapping[str, str]
    is_ready: Callable[[], bool]
    before_start: Callable[[], None] | None = None
    after_ready: Callable[[], None] | None = None
    ready_seconds: float = 30.0
    poll_seconds: float = 0.03
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 15.0
    user: int | None = None


def mark(home: Path) -> dict[str, str]:
    """What a program of ours needs in its environment, so that it is found and ended."""
    return {MARK: str(home)}


def start(service: Service, *, home: Path) -> subprocess.Popen[bytes]:
    """Start the program and return once it serves; it is ended again if it never does."""
    process = spawn(service, home=home)
    try:
        wait_until_ready(service, process)
    except BaseException:
        stop(service, process)
        raise
    return process


def spawn(service: Service, *, home: Path) -> subprocess.Popen[bytes]:
    if service.before_start is not None:
        service.before_start()
    keep_previous_log(service.log)
    with service.log.open("ab") as log:
        # A session of its own, so that Ctrl-C in the terminal reaches the supervisor alone.
        return subprocess.Popen(
            service.command,
            cwd=service.directory,
            env={**service.environment, **mark(home)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=service.user,
            group=service.user,
            extra_groups=None if service.user is None else [],
        )


def wait_until_ready(
    service: Service,
    process: subprocess.Popen[bytes],
    *,
    cancelled: threading.Event | None = None,
) -> None:
    deadline = time.monotonic() + service.ready_seconds
    given_up = cancelled or threading.Event()
    while True:
        # Before the question: on its port somebody else may answer.
        if process.poll() is not None:
            why = f"stopped at start with exit code {process.returncode}"
            raise ServerDiedError(service.name, why, service.log)
        if service.is_ready():
            break
        if time.monotonic() > deadline:
            why = f"did not answer within {service.ready_seconds:.0f} s"
            raise ServerDiedError(service.name, why, service.log)
        if given_up.wait(service.poll_seconds):
            raise EmbeddedError(f"{service.name} was stopped while it started.")
    if service.after_ready is not None:
        service.after_ready()


def stop(service: Service, process: subprocess.Popen[bytes]) -> None:
    """Ask the program to end, and end it with all its children if it does not."""
    if process.poll() is None:
        process.send_signal(service.stop_signal)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(service.stop_seconds)
    process.kill()
    process.wait()
    for child in group_members(process.pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


def group_members(leader: int) -> list[psutil.Process]:
    """What a program that led its own group has left behind.

    Only marked processes: once the group is empty, its number may be anybody's.
    """
    return [one for one in psutil.process_iter() if group_of(one) == leader and mark_of(one)]


def group_of(process: psutil.Process) -> int | None:
    try:
        return os.getpgid(process.pid)
    except ProcessLookupError:
        return None


def run_checked(
    command: Iterable[str | Path],
    *,
    name: str,
    environment: Mapping[str, str],
    directory: Path,
    user: int | None = None,
    stdin: str = "",
) -> None:
    """Run a short helper program; what it says becomes the error if it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        input=stdin,
        cwd=directory,
        env=dict(environment),
        text=True,
        errors="replace",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
    )
    if done.returncode != 0:
        hint = " The disk is full." if "No space left" in done.stdout else ""
        raise EmbeddedError(
            f"{name} failed with exit code {done.returncode}.{hint}\n{done.stdout}".rstrip()
        )


def keep_previous_log(log: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        log.replace(log.with_suffix(".old.log"))


def birth(pid: int) -> str | None:
    """What tells this process from every other that ever had its number; None if it has ended."""
    try:
        # The name in field 2 may hold spaces and brackets; the start time is field 22.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    # A dead process whose parent does not look at it keeps its number, as a zombie.
    return None if fields[0] == "Z" else f"{boot}:{fields[19]}"


def marked_processes(home: Path) -> list[psutil.Process]:
    """The living programs that were started for `home`, by whichever supervisor."""
    return [process for process in psutil.process_iter() if mark_of(process) == str(home)]


def mark_of(process: psutil.Process) -> str | None:
    try:
        environment: dict[str, str] = process.environ()
    except (psutil.Error, OSError):
        return None
    return environment.get(MARK)


def processes_in(directory: Path) -> list[psutil.Process]:
    """The living processes that have made this their working directory."""
    return [process for process in psutil.process_iter() if working_directory(process) == directory]


def working_directory(process: psutil.Process) -> Path | None:
    try:
        return Path(process.cwd())
    except (psutil.Error, OSError):
        return None


def end_processes(processes: Iterable[psutil.Process], *, patience_seconds: float = 10.0) -> None:
    """End processes of ours without a supervisor: ask, wait, kill."""
    found = list(processes)
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            # To PostgreSQL TERM means: wait until the last client has left.
            gentle = signal.SIGINT if process.name() == "postgres" else signal.SIGTERM
            process.send_signal(gentle)
    for process in still_alive(found, after_seconds=patience_seconds):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    still_alive(found, after_seconds=5)


def still_alive(found: list[psutil.Process], *, after_seconds: float) -> list[psutil.Process]:
    """Wait for the processes to end, and return those that did not."""
    deadline = time.monotonic() + after_seconds
    while (alive := [one for one in found if is_alive(one)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return alive


def is_alive(process: psutil.Process) -> bool:
    # An orphan may stay a zombie for as long as its new parent likes; psutil calls that running.
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
