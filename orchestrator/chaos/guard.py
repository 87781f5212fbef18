"""Ends what a storm has started when the storm itself has died, however it did."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.embedded.commands import REPOSITORY
from orchestrator.embedded.processes import end_processes, marked_processes


@contextmanager
def guarded(home: Path) -> Iterator[None]:
    """Nothing that was started for `home` outlives the block or this process."""
    watcher = subprocess.Popen(
        [sys.executable, "-m", "orchestrator.chaos.guard", str(home)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield
    finally:
        watcher.communicate()


def main(home: Path) -> None:
    sys.stdin.read()
    end_processes(marked_processes(home), patience_seconds=5)
    shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
