"""Removes what has expired and nobody will ask for again, for all tenants at once."""

from datetime import datetime
from typing import Any

from django.contrib.sessions.models import Session
from django.db.models import QuerySet

from tenants.kernel.clock import now
from tenants.models import IdempotencyRecord


def purge_expired(batch: int = 1000) -> int:
    """Delete expired answers to repeats, and sessions: at most `batch` of each, oldest first.

    Returns how many rows went; 0 says that nothing is left. Runs on the system's connection,
    in a transaction of its own for each kind.
    """
    moment = now()
    records = IdempotencyRecord.objects.db_manager("system").all()
    sessions = Session.objects.using("system").all()
    return _delete(records, "expires_at", moment, batch) + _delete(
        sessions, "expire_date", moment, batch
    )


def _delete(rows: QuerySet[Any], column: str, moment: datetime, batch: int) -> int:
    expired = rows.filter(**{f"{column}__lt": moment})
    oldest = expired.order_by(column).values("pk")[:batch]
    # Asked again of each row: a key that is used anew meanwhile has renewed its record.
    count, _ = expired.filter(pk__in=oldest).delete()
    return count
