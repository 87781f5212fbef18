"""Recording how an attempt ended, and learning what is to be published for it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from psycopg.types.json import Json, Jsonb
from pydantic import JsonValue

from orchestrator.execution import engine_db
from orchestrator.execution.claims import MOST
from orchestrator.execution.coalescing import Coalescer

_FINISH = """
SELECT * FROM muster_finish_all(%s, %s::uuid[], %s::int[], %s::text[], %s::text[], %s::text[],
                                %s::json[], %s::jsonb[])
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """The outcome of an attempt: an output, or an error and its reason in words."""

    tenant_id: UUID
    agent_run_id: UUID
    attempt: int
    status: str
    reason: str
    prompt: str | None
    output: JsonValue
    error: Mapping[str, JsonValue] | None


@dataclass(frozen=True, slots=True)
class Finished:
    """What the finisher must publish: the next agent run of a windowed level, and `advance`."""

    next_agent_run: UUID | None
    next_priority: int
    advance: bool


def finish(given: Finish, *, give_up: Callable[[], bool]) -> Finished | None:
    """Write the outcome, through failures of the database until `give_up` says so.

    None if the attempt lost its lease: a newer one reports instead.
    """
    return engine_db.persistently(lambda: _finishes(given), give_up=give_up)


def _finish_all(given: Sequence[Finish]) -> list[Finished | None]:
    """Outcomes of one tenant together."""
    rows = engine_db.many(
        _FINISH,
        given[0].tenant_id,
        [one.agent_run_id for one in given],
        [one.attempt for one in given],
        [one.status for one in given],
        [one.reason for one in given],
        [one.prompt for one in given],
        [None if one.error else Json(one.output) for one in given],
        [Jsonb(one.error) if one.error else None for one in given],
    )
    by_attempt = {(row["agent_run_id"], row["attempt"]): _finished(row) for row in rows}
    return [by_attempt[one.agent_run_id, one.attempt] for one in given]


def _finished(row: engine_db.Row) -> Finished | None:
    if not row["finished"]:
        return None
    return Finished(row["next_agent_run"], row["next_priority"] or 0, row["advance"])


_finishes = Coalescer(_finish_all, key=lambda given: given.tenant_id, most=MOST)
