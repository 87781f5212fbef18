"""What is kept for a time only goes when that is over."""

from typing import Final

from orchestrator.execution import engine_db
from orchestrator.execution.engine_db import rows
from orchestrator.services.alone import Work, is_alone
from orchestrator.services.call_texts import treat_ended_runs

SECONDS: Final = 600.0
# In one transaction; the rest goes the next time.
_MOST: Final = 10_000

_ANSWERS: Final = "SELECT muster_forget_answers(%s) AS gone"
_BATCHES: Final = "SELECT muster_forget_batches(%s) AS gone"


def forget() -> None:
    """Forget cached answers that have expired, old batches, and texts that are kept no longer.

    Nothing, if somebody else is at it.
    """
    with engine_db.transaction(alias="system") as connection:
        if not is_alone(connection, Work.RETENTION):
            return
        rows(connection, _ANSWERS, [_MOST])
        rows(connection, _BATCHES, [_MOST])
        treat_ended_runs(connection)
