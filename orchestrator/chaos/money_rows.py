"""What is left after the storm over money: calls, attempts, and what was seen meanwhile."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from orchestrator.core.limits import Unit

Row = dict[str, Any]
Span = tuple[float, float]

# One statement, so that all of it is of the same moment.
_MONEY: Final = """
SELECT p.limit_nano, p.spent_nano, p.held_nano, p.overrun_nano,
       (SELECT COALESCE(sum(amount_nano), 0)::bigint FROM cost_entry) AS ledger_nano,
       (SELECT COALESCE(sum(hold_nano), 0)::bigint FROM llm_call
         WHERE status = 'open' AND p.id = ANY (budget_periods)) AS open_nano
  FROM budget_period p
"""
_CALLS: Final = """
SELECT id, agent_run_id, attempt, status, hold_nano, cost_nano, output_tokens,
       (request ->> 'max_output_tokens')::int AS most_output,
       extract(epoch FROM created_at)::float AS began, extract(epoch FROM ended_at)::float AS ended
  FROM llm_call ORDER BY created_at
"""
_ATTEMPTS: Final = """
SELECT agent_run_id, number, outcome, extract(epoch FROM started_at)::float AS began,
       extract(epoch FROM finished_at)::float AS ended
  FROM attempt ORDER BY agent_run_id, number
"""
_WAITS: Final = """
SELECT agent_run_id, (data ->> 'attempt')::int AS attempt, data ->> 'reason' AS reason,
       extract(epoch FROM (data ->> 'until')::timestamptz)::float AS until
  FROM run_event WHERE type = 'agent.waiting'
"""
_RUN: Final = "SELECT status, status_reason, cost_nano FROM run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A limit of the storm: what of each call it counts, its refill in a second, its capacity."""

    unit: Unit
    per_second: int
    capacity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MoneyEvidence:
    buckets: Sequence[Bucket]
    places: int
    samples: Sequence[Row]  # of the budget, the last one when all was over
    run: Row
    calls: Sequence[Row]
    attempts: Mapping[UUID, Sequence[Row]]  # by agent run, in order
    waits: Mapping[tuple[UUID, int], Row]  # why and until when, by agent run and attempt
    load: Span  # in which there was work for everybody
    excused: Sequence[Span]  # in which there was no budget left, or no Redis
    places_taken: int
    logs: Sequence[Path]


def money_now(connection: psycopg.Connection[Row]) -> Row | None:
    """The only budget; None as long as nothing was held in it."""
    return connection.execute(_MONEY).fetchone()


def money_rows(url: str) -> dict[str, Any]:
    with psycopg.connect(url, row_factory=dict_row) as connection:
        attempts: dict[UUID, list[Row]] = defaultdict(list)
        for row in connection.execute(_ATTEMPTS):
            attempts[row["agent_run_id"]].append(row)
        return {
            "waits": {
                (row["agent_run_id"], row["attempt"]): row for row in connection.execute(_WAITS)
            },
            "calls": list(connection.execute(_CALLS)),
            "attempts": attempts,
            "run": connection.execute(_RUN).fetchone() or {},
        }
