"""What is kept under `.muster` between starts, and the lock that allows one supervisor."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from orchestrator.embedded.errors import AlreadyRunningError
from orchestrator.embedded.processes import birth


@dataclass(frozen=True, slots=True)
class Home:
    """The `.muster` directory of one clone. Everything in it is private to its user."""

    path: Path

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def env_file(self) -> Path:
        return self.path / "env"

    @property
    def secrets_file(self) -> Path:
        return self.path / "secrets.json"

    @property
    def state_file(self) -> Path:
        return self.path / "state.json"

    @property
    def lock_file(self) -> Path:
        return self.path / "supervisor.lock"

    def prepare(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(mode=0o700, exist_ok=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What the last supervisor started. `served_by` is its birth, once everything serves."""

    served_by: str = ""
    ports: dict[str, int] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)
    processes: dict[str, dict[str, str | int]] = field(default_factory=dict)


def read_state(home: Home) -> State:
    """The stored state, or an empty one where there is none or it cannot be read."""
    try:
        return State(**json.loads(home.state_file.read_text()))
    except (OSError, ValueError, TypeError):
        return State()


def is_serving(home: Home) -> bool:
    """Whether the supervisor that lives now has said that everything serves."""
    pid = supervisor_pid(home)
    return pid is not None and read_state(home).served_by == birth(pid)


def write_state(home: Home, state: State) -> None:
    write_private(home.state_file, json.dumps(asdict(state), indent=2) + "\n")


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step, readable by its owner only."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


@contextlib.contextmanager
def supervising(home: Home) -> Iterator[None]:
    """Hold the directory for this process; the kernel lets go of it however the process ends."""
    with home.lock_file.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunningError(home.path) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def supervisor_pid(home: Home) -> int | None:
    """The process that holds the directory now. A dead one's number is never returned."""
    try:
        with home.lock_file.open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(lock.read() or 0) or None
    except FileNotFoundError:
        return None
    return None
