"""Recording how an attempt ended, and learning what is to be published for it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.types.json import Json, Jsonb
from pydantic import JsonValue

from orchestrator.core.hints import RunHints, hints_of
from orchestrator.core.state import AgentRunStatus, WaitingReason
from orchestrator.execution import engine_db
from orchestrator.execution.claims import MOST
from orchestrator.execution.coalescing import Coalescer
from orchestrator.execution.engine_db import Row

_FINISH = """
SELECT * FROM muster_finish_all(%s, %s, %s::uuid[], %s::int[], %s::text[], %s::text[],
                                %s::text[], %s::json[], %s::jsonb[], %s::float[], %s::jsonb[],
                                %s::json[], %s::text[], %s::text[])
"""
_HOLD = "SELECT * FROM muster_hold_calls(%s, %s, %s, %s, %s, %s::jsonb, %s::json)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """The outcome of an attempt: an output, or an error and its reason in words.

    Status `waiting` lets the agent run try again `again_in` seconds later, after a failure or,
    where `gate` names one, once a limit or a budget lets it through, or go on once the steps have
    ended that it delegates (`added`); `queued` takes it from a worker that is gone; `running` has
    it stand for the steps that it adds. `held` are calls that people are asked about, as
    `core.held` has them, for whose answers it waits. `ended` is what the agent run was before: at
    work, or waiting for something that a worker does not do.
    """

    tenant_id: UUID
    agent_run_id: UUID
    attempt: int
    status: AgentRunStatus
    reason: str = ""
    prompt: str | None = None
    output: JsonValue = None
    error: Mapping[str, JsonValue] | None = None
    again_in: float | None = None
    system: Mapping[str, JsonValue] | None = None
    added: Mapping[str, JsonValue] | None = None
    waiting_for: WaitingReason = WaitingReason.RETRY
    gate: str = ""
    held: Sequence[Mapping[str, JsonValue]] = ()
    ended: AgentRunStatus = AgentRunStatus.RUNNING


@dataclass(frozen=True, slots=True)
class Finished:
    """What the finisher must publish: for all that was written together with its outcome."""

    hints: Sequence[RunHints] = ()


def finish(given: Finish, *, give_up: Callable[[], bool]) -> Finished | None:
    """Write the outcome, through failures of the database until `give_up` says so.

    None if the attempt lost its lease: a newer one reports instead.
    """
    write = _hold if given.held else _finishes
    return engine_db.persistently(lambda: write(given), give_up=give_up)


def _hold(given: Finish) -> Finished | None:
    rows = engine_db.many(
        _HOLD,
        *(given.tenant_id, given.agent_run_id, given.attempt, given.reason, given.prompt),
        Jsonb(given.system) if given.system else None,
        Json(list(given.held)),
    )
    followers = [row for row in rows if row["what"] != "finished"]
    return Finished(hints_of(given.tenant_id, followers)) if rows else None


def finish_all(given: Sequence[Finish]) -> list[Finished | None]:
    """Outcomes of one tenant, of agent runs in one state, together.

    The first that counted has the hints for all.
    """
    rows = engine_db.many(_FINISH, *_arguments(given))
    counted = {(row["agent_run_id"], row["priority"]) for row in rows if row["what"] == "finished"}
    hints = hints_of(given[0].tenant_id, (row for row in rows if row["what"] != "finished"))
    results: list[Finished | None] = []
    for one in given:
        is_counted = (one.agent_run_id, one.attempt) in counted
        results.append(Finished(hints) if is_counted else None)
        if is_counted:
            hints = []
    return results


def finish_within(connection: Connection[Row], given: Finish) -> list[Row]:
    """Write an outcome inside the caller's transaction; gives the rows of its hints."""
    rows = engine_db.rows(connection, _FINISH, _arguments([given]))
    return [row for row in rows if row["what"] != "finished"]


def _arguments(given: Sequence[Finish]) -> list[Any]:
    return [
        given[0].tenant_id,
        given[0].ended,
        [one.agent_run_id for one in given],
        [one.attempt for one in given],
        [one.status for one in given],
        [one.reason for one in given],
        [one.prompt for one in given],
        [None if one.error else Json(one.output) for one in given],
        [Jsonb(one.error) if one.error else None for one in given],
        [one.again_in for one in given],
        [Jsonb(one.system) if one.system else None for one in given],
        [Json(one.added) if one.added else None for one in given],
        [one.waiting_for for one in given],
        [one.gate for one in given],
    ]


_finishes = Coalescer(
    finish_all,
    key=lambda given: (given.tenant_id, given.ended),
    most=MOST,
    concerns_all=engine_db.is_away,
)
