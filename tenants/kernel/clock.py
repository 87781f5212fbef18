"""The one place that reads this machine's clock. The engine uses the database's instead."""

from datetime import UTC, datetime


def now() -> datetime:
    return datetime.now(UTC)
