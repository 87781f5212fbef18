"""Whether ledger, calls, agent runs, runs and budgets agree: looked at every night, kept as rows.

Nothing is mended: a difference is a fault of the platform, and shows where.
"""

from dataclasses import dataclass
from datetime import date
from typing import Final

import structlog
from django.conf import settings
from psycopg import Connection
from uuid_utils.compat import uuid7

from orchestrator.execution import engine_db
from orchestrator.execution.engine_db import Row, rows
from orchestrator.services.alone import Work, is_alone

log = structlog.get_logger(__name__)

# How often a control worker looks whether it is time.
SECONDS: Final = 60.0
# More of one rule than anybody reads; the count of all is kept beside them.
MOST_SHOWN: Final = 200
_KEPT_DAYS: Final = 180

_NIGHT = """
SELECT x.night, EXISTS (SELECT FROM ledger_check c WHERE c.night = x.night) AS is_done
  FROM (SELECT (clock_timestamp() AT TIME ZONE 'UTC' - make_interval(hours => %s))::date AS night) x
"""
_CHECK = "SELECT * FROM muster_check_ledger(%s)"
_WRITE = """
INSERT INTO ledger_check (id, night, started_at, finished_at, lines, calls, agent_runs, runs,
                          periods, difference_count)
SELECT %s, %s, transaction_timestamp(), clock_timestamp(), s.*, %s FROM muster_check_sizes() s
RETURNING *
"""
_WRITE_DIFFERENCES = """
INSERT INTO ledger_difference (id, ledger_check_id, tenant_id, rule, object_id, run_id,
                               expected_nano, found_nano, detail)
SELECT uuidv7(), %s, d.*
  FROM unnest(%s::uuid[], %s::text[], %s::uuid[], %s::uuid[], %s::bigint[], %s::bigint[],
              %s::text[]) d
RETURNING 1
"""
_FORGET = """
WITH old AS (SELECT id FROM ledger_check
              WHERE finished_at < clock_timestamp() - make_interval(days => %s)),
     parts AS (DELETE FROM ledger_difference WHERE ledger_check_id IN (SELECT id FROM old))
DELETE FROM ledger_check WHERE id IN (SELECT id FROM old) RETURNING 1
"""
_COLUMNS: Final = ("tenant_id", "rule", "object_id", "run_id", "expected", "found", "detail")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A check as it was written down. `differences` holds the largest of each rule."""

    check: Row
    differences: list[Row]

    @property
    def agrees(self) -> bool:
        return int(self.check["difference_count"]) == 0


def check_ledger() -> Checked:
    """Compare all books in one snapshot, and keep what was found. Takes seconds for millions."""
    with engine_db.transaction(alias="system") as connection:
        return _check(connection, None)


def nightly() -> Checked | None:
    """The check of this night, unless it was made, or somebody else makes it just now."""
    with engine_db.transaction(alias="system") as connection:
        if not is_alone(connection, Work.LEDGER_CHECK):
            return None
        # After the lock, since whoever had it has just written the night's.
        (night,) = rows(connection, _NIGHT, [settings.MUSTER_LEDGER_CHECK_HOUR])
        if night["is_done"]:
            return None
        rows(connection, _FORGET, [_KEPT_DAYS])
        return _check(connection, night["night"])


def _check(connection: Connection[Row], night: date | None) -> Checked:
    found = rows(connection, _CHECK, [MOST_SHOWN])
    # Each row bears the count of its book.
    total = sum({row["book"]: row["total"] for row in found}.values())
    (check,) = rows(connection, _WRITE, [uuid7(), night, total])
    if found:
        columns = [[row[name] for row in found] for name in _COLUMNS]
        rows(connection, _WRITE_DIFFERENCES, [check["id"], *columns])
        log.error("ledger_differs", check_id=str(check["id"]), differences=total)
    return Checked(check=check, differences=found)
