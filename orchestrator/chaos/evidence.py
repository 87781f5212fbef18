"""What is left after the storm: the rows, the provider's log, who died when, what Redis keeps."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import psycopg
import redis
from psycopg.rows import dict_row

from orchestrator.chaos.crew import Member
from orchestrator.chaos.flows import Flow
from orchestrator.chaos.provider import Entry
from orchestrator.chaos.traffic import Started
from orchestrator.limits.keys import Keys, meta_key

Row = dict[str, Any]

_RUNS: Final = "SELECT *, extract(epoch FROM finished_at)::float AS ended FROM run"
_AGENT_RUNS: Final = "SELECT * FROM agent_run ORDER BY run_id, position"
_ATTEMPTS: Final = """
SELECT *, extract(epoch FROM started_at)::float AS began,
       extract(epoch FROM finished_at)::float AS ended
  FROM attempt ORDER BY agent_run_id, number
"""
_CALLS: Final = """
SELECT *, extract(epoch FROM created_at)::float AS began,
       extract(epoch FROM ended_at)::float AS ended
  FROM llm_call ORDER BY agent_run_id, created_at
"""
_ENTRIES: Final = "SELECT call_id, kind, amount_nano FROM cost_entry ORDER BY at"
_APPROVALS: Final = "SELECT * FROM approval ORDER BY id"
_BATCHES: Final = "SELECT * FROM run_batch ORDER BY id"
# What tenants still have in flight, by the count that their shares of the workers go by.
_LOADS: Final = """
SELECT tenant_id, sum(in_flight)::int AS in_flight,
       (SELECT count(*) FROM ready_agent_run q WHERE q.tenant_id = l.tenant_id) AS waiting
  FROM tenant_load l GROUP BY tenant_id
"""
# Each tenant has one, which is hard and never exhausted; so has each run with a cap of its own.
_BUDGETS: Final = """
SELECT p.tenant_id, b.scope, p.limit_nano, p.spent_nano, p.held_nano, p.overrun_nano,
       (SELECT COALESCE(sum(e.amount_nano), 0)::bigint
          FROM cost_entry e JOIN run r ON r.id = e.run_id
         WHERE e.tenant_id = p.tenant_id
           AND (b.scope <> 'run' OR b.scope_id = ANY (r.cap_runs))) AS ledger_nano
  FROM budget_period p JOIN budget b ON b.id = p.budget_id ORDER BY p.tenant_id, p.id
"""
_EVENTS: Final = """
SELECT id, run_id, agent_run_id, type, data, at AS told_at, extract(epoch FROM at)::float AS at
  FROM run_event ORDER BY id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftovers:
    """Keys of Redis that never expire, by type, and channels that somebody listens to."""

    keys: Mapping[str, str]
    channels: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    started: Sequence[Started]
    accepted: Mapping[tuple[UUID, str], int]
    runs: Mapping[UUID, Row]
    agent_runs: Mapping[UUID, Sequence[Row]]  # by run
    attempts: Mapping[UUID, Sequence[Row]]  # by agent run, in order
    calls: Mapping[UUID, Sequence[Row]]  # by agent run, in order
    entries: Mapping[UUID, Sequence[Row]]  # by call
    events: Mapping[UUID, Sequence[Row]]  # by run, in order
    approvals: Sequence[Row]
    batches: Sequence[Row]
    loads: Sequence[Row]
    budgets: Sequence[Row]
    places_taken: int  # at the limiter
    decided: Mapping[UUID, int]  # how many were told that their answer to an approval holds
    cancelled_batches: Sequence[UUID]
    span: tuple[float, float]  # of the whole storm
    log: Sequence[Entry]
    members: Mapping[str, Member]  # by the name that rows have
    outages: Sequence[tuple[float, float]]  # of PostgreSQL
    leftovers: Leftovers
    leaf: Flow

    def steps(self, run: Started) -> list[Row]:
        """Those that it has added among them, but no items of maps and no rounds of loops."""
        found = self.agent_runs[run.id]
        adding = {row["id"] for row in found if row["kind"] == "steps"}
        return [row for row in found if row["parent_id"] is None or row["parent_id"] in adding]

    def cost_below(self, agent_run: Row) -> int:
        """What the run of a step that is a workflow cost."""
        return sum(int(row["cost_nano"]) for row in self.runs_below(agent_run))

    def runs_below(self, agent_run: Row) -> list[Row]:
        """The run that a step stands for, if it is a workflow."""
        if agent_run["kind"] != "workflow":
            return []
        return [row for row in self.runs.values() if row["parent_agent_run_id"] == agent_run["id"]]

    def retried(self, run: UUID) -> list[float]:
        return [row["at"] for row in self.events[run] if row["type"] == "run.retried"]


def rows(url: str) -> dict[str, Any]:
    """The parts of Evidence that lie in PostgreSQL, read past every wall."""
    with psycopg.connect(url, row_factory=dict_row) as connection:

        def grouped(query: str, by: str) -> dict[UUID, list[Row]]:
            found: dict[UUID, list[Row]] = defaultdict(list)
            for row in connection.execute(query):
                found[row[by]].append(row)
            return found

        return {
            "runs": {row["id"]: row for row in connection.execute(_RUNS)},
            "agent_runs": grouped(_AGENT_RUNS, "run_id"),
            "attempts": grouped(_ATTEMPTS, "agent_run_id"),
            "calls": grouped(_CALLS, "agent_run_id"),
            "entries": grouped(_ENTRIES, "call_id"),
            "events": grouped(_EVENTS, "run_id"),
            "approvals": list(connection.execute(_APPROVALS)),
            "batches": list(connection.execute(_BATCHES)),
            "loads": list(connection.execute(_LOADS)),
            "budgets": list(connection.execute(_BUDGETS)),
        }


def as_json(evidence: Evidence) -> str:
    """The rows, for whoever looks into a verdict."""
    names = ("runs", "agent_runs", "attempts", "calls", "entries", "events")
    tables = {name: getattr(evidence, name) for name in names}
    written = {
        name: {str(key): rows_ for key, rows_ in table.items()} for name, table in tables.items()
    }
    faults = {
        name: {"cause": m.cause, "ended_at": m.ended_at, "frozen": m.frozen, "wrong": m.wrong_by}
        for name, m in evidence.members.items()
    }
    return json.dumps(
        {
            **written,
            "members": faults,
            "outages": evidence.outages,
            "approvals": evidence.approvals,
            "batches": evidence.batches,
            "budgets": evidence.budgets,
        },
        default=str,
        indent=1,
    )


def leftovers(client: redis.Redis) -> Leftovers:
    keys = [key for key in client.scan_iter(count=1000) if client.ttl(key) < 0]
    return Leftovers(
        keys={_text(key): _text(client.type(key)) for key in keys},
        channels=[_text(channel) for channel in client.pubsub_channels()],
    )


def places_taken(client: redis.Redis) -> int:
    """How many calls have a place at the limiter whose lease has not run out."""
    epoch = client.hget(meta_key(), "epoch")
    if not isinstance(epoch, bytes):
        return 0
    seconds, microseconds = client.time()
    now = int(seconds) * 1_000_000 + int(microseconds)
    keys = client.scan_iter(Keys(epoch.decode()).place("*", "*"), count=1000)
    return sum(int(client.zcount(key, now, "+inf")) for key in keys)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
