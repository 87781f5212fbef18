"""Keeps one program running for as long as the supervisor does."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from orchestrator.embedded import processes
from orchestrator.embedded.errors import EmbeddedError
from orchestrator.embedded.processes import Service

CHECK_SECONDS = 0.2
# A program that lived this long died of something new, and is started again at once.
SETTLED_SECONDS = 30.0
SHORTEST_PAUSE, LONGEST_PAUSE = 0.5, 15.0


class Keeper:
    """One program: started, watched by a thread, started again when it ends, stopped."""

    def __init__(
        self,
        service: Service,
        *,
        home: Path,
        say: Callable[[str], None],
        started: Callable[[str, int], None],
    ) -> None:
        self.service = service
        self._home = home
        self._say = say
        self._started = started
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"keep-{service.name}")

    def start(self) -> None:
        """Start the program and return once it serves; from then on it is watched."""
        self._start()
        self._thread.start()

    def cancel(self) -> None:
        """Give up waiting for the program, and start it no more."""
        self._stopping.set()

    def stop(self) -> None:
        self.cancel()
        if self._thread.is_alive():
            self._thread.join()
        self._end()

    def _start(self) -> None:
        self._process = processes.spawn(self.service, home=self._home)
        self._started(self.service.name, self._process.pid)
        processes.wait_until_ready(self.service, self._process, cancelled=self._stopping)

    def _watch(self) -> None:
        pause, began = SHORTEST_PAUSE, time.monotonic()
        while not self._stopping.wait(CHECK_SECONDS):
            if self._process is None or self._process.poll() is None:
                continue
            code = self._process.returncode
            lived = time.monotonic() - began
            pause = SHORTEST_PAUSE if lived > SETTLED_SECONDS else min(pause * 2, LONGEST_PAUSE)
            ended = f"{self.service.name} ended with exit code {code} after {lived:.0f} s"
            self._say(f"{ended}; starting it again.")
            self._restart()
            began = time.monotonic()
            self._stopping.wait(pause)

    def _restart(self) -> None:
        # A killed program may have left children that hold its port.
        self._end()
        try:
            self._start()
        except (EmbeddedError, OSError) as error:
            self._say(str(error))
            self._end()

    def _end(self) -> None:
        if self._process is not None:
            processes.stop(self.service, self._process)
