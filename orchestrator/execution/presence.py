"""Tells the cluster that this worker process is there, and how many agents it runs at a time."""

from typing import Final

from orchestrator.execution import engine_db

SECONDS: Final = 5.0
COUNTS_SECONDS: Final = 15

_HERE = "SELECT muster_here(%s, %s)"


def here(worker: str, *, slots: int) -> None:
    """Counts for `COUNTS_SECONDS`."""
    engine_db.one(_HERE, worker, slots)
