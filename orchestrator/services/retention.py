"""What is kept for a time only goes when that is over."""

import time
from collections import deque
from typing import Final
from uuid import UUID

import structlog

from orchestrator.execution import engine_db
from orchestrator.execution.engine_db import rows
from orchestrator.services.alone import Work, is_alone
from orchestrator.services.call_texts import tenants_to_treat, treat_ended_runs

log = structlog.get_logger(__name__)

SECONDS: Final = 600.0
# In one transaction.
_MOST: Final = 10_000

_ANSWERS: Final = "SELECT muster_forget_answers(%s) AS gone"
_BATCHES: Final = "SELECT muster_forget_batches(%s) AS gone"


def forget() -> None:
    """Forget cached answers that have expired, old batches, and texts that are kept no longer.

    Each portion in a transaction of its own, the tenants in turn; one that fails holds up no
    other. What is left when the next time has come goes then. Nothing, while another is at it.
    """
    until = time.monotonic() + SECONDS
    while time.monotonic() < until and _has_more_answers():
        pass
    waiting = deque(_tenants())
    while waiting and time.monotonic() < until:
        tenant_id = waiting.popleft()
        if _has_more_texts(tenant_id):
            waiting.append(tenant_id)


def _has_more_answers() -> bool:
    with engine_db.transaction(alias="system") as connection:
        if not is_alone(connection, Work.RETENTION):
            return False
        forgotten = [rows(connection, query, [_MOST])[0]["gone"] for query in (_ANSWERS, _BATCHES)]
        return bool(max(forgotten) >= _MOST)


def _tenants() -> list[UUID]:
    with engine_db.transaction(alias="system") as connection:
        return tenants_to_treat(connection)


def _has_more_texts(tenant_id: UUID) -> bool:
    try:
        with engine_db.transaction(alias="system") as connection:
            return is_alone(connection, Work.RETENTION) and treat_ended_runs(connection, tenant_id)
    except Exception as error:
        if engine_db.is_away(error):
            raise
        # It may be a text of this tenant: the others' go all the same.
        log.exception("texts_not_treated", tenant_id=str(tenant_id))
        return False
