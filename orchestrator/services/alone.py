"""Work that one process of the cluster does at a time."""

from enum import IntEnum

from psycopg import Connection

from orchestrator.execution.engine_db import Row, rows


class Work(IntEnum):
    """By the advisory lock that is held meanwhile: numbers that nothing else here locks."""

    # Each part of a sweep for itself.
    SWEEP_STEPS = 0x6D757374
    SWEEP_ENDS = 0x6D757375
    SWEEP_RUNS = 0x6D757376
    SWEEP_TURNS = 0x6D757377
    SWEEP_PAUSED = 0x6D757378
    FAIR_SHARES = 0x6D757380
    VELOCITY = 0x6D757390
    LEDGER_CHECK = 0x6D7573A0
    ALERTS = 0x6D7573B0
    RETENTION = 0x6D7573C0


def is_alone(connection: Connection[Row], work: Work) -> bool:
    """Whether this transaction may do the work: nobody else does until it ends."""
    (row,) = rows(connection, "SELECT pg_try_advisory_xact_lock(%s) AS won", [work.value])
    return bool(row["won"])
