"""Progress for the person at the terminal: spinners where there is one, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn


class Reporter:
    """Says on standard error what is being done. Several steps may go on at once."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._progress: Progress | None = None

    @contextlib.contextmanager
    def group(self) -> Iterator[None]:
        """Show the steps inside as spinners until the last one is done."""
        if not self.console.is_terminal:
            yield
            return
        columns = (SpinnerColumn(finished_text="[green]✔"), TextColumn("{task.description}"))
        with Progress(*columns, console=self.console) as self._progress:
            try:
                yield
            finally:
                self._progress = None

    @contextlib.contextmanager
    def step(self, label: str) -> Iterator[None]:
        began = time.monotonic()
        task = self._progress.add_task(label, total=1) if self._progress else None
        yield
        self._finish(f"{label} {time.monotonic() - began:.1f} s", task)

    def say(self, text: str) -> None:
        # What a log says in brackets is no markup; and a terminal that is gone stops nothing.
        with contextlib.suppress(OSError):
            self.console.print(text, markup=False)

    def _finish(self, line: str, task: TaskID | None) -> None:
        if self._progress is None or task is None:
            self.say(line)
            return
        self._progress.update(task, description=line, completed=1)
