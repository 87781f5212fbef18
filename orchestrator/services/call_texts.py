"""What is left of what was said in runs that have ended, as each tenant has set it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from psycopg import Connection
from psycopg.types.json import Json, Jsonb

from orchestrator.core.redaction import redacted
from orchestrator.execution.engine_db import Row, rows
from orchestrator.models.calls import Keeps

# In one transaction, which keeps them from being taken up again meanwhile.
MOST_RUNS: Final = 50
# At a time in memory, since replies may be long.
_PORTION: Final = 100

_TENANTS: Final = """
SELECT tenant_id FROM call_settings WHERE keeps <> 'full' OR keep_days IS NOT NULL
 ORDER BY tenant_id
"""
# By the database's clock, and a minute late, since an end may be written before it can be seen.
# Whoever changes the settings has the runs treated anew, after this or before.
_DUE: Final = """
SELECT s.id, s.tenant_id, s.keeps,
       COALESCE(s.treated_until, 'epoch') AS treated_after,
       CASE WHEN s.keeps <> 'full' THEN clock_timestamp() - interval '1 minute' END AS treat_until,
       COALESCE(s.removed_until, 'epoch') AS removed_after,
       clock_timestamp() - make_interval(days => s.keep_days, mins => 1) AS remove_until
  FROM call_settings s WHERE s.tenant_id = %s FOR NO KEY UPDATE
"""
_ENDED: Final = "SELECT * FROM muster_ended_runs(%s, %s, %s, %s)"
_HOLD: Final = "SELECT id FROM muster_hold_ended(%s::uuid[]) AS id"
_REMOVE: Final = "SELECT muster_remove_texts(%s::uuid[])"
_TREATED: Final = "UPDATE call_settings SET treated_until = %s WHERE id = %s RETURNING 1"
_REMOVED: Final = "UPDATE call_settings SET removed_until = %s WHERE id = %s RETURNING 1"
_BEGIN_ANEW: Final = "SELECT muster_have_begin_anew(%s::uuid[], %s::uuid[])"
_FORGET_EFFECTS: Final = "SELECT muster_forget_effects(%s::uuid[])"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Texts:
    """Rows with texts in them.

    `read` gives their columns with texts, what they are found by, and as `agent` who would go on
    with them were its run taken up again. `write` takes the same, those in `adapt` as it says;
    "" if the row goes in the end.
    """

    read: str
    write: str = ""
    adapt: Mapping[str, type[Json] | type[Jsonb]] = field(default_factory=dict)


_ALL: Final = (
    _Texts(
        read="""
        SELECT id, request, reply, agent_run_id AS agent FROM llm_call
         WHERE run_id = ANY(%s::uuid[])
        """,
        write="""
        UPDATE llm_call SET request = %(request)s, reply = %(reply)s, updated_at = clock_timestamp()
         WHERE id = %(id)s
        """,
        adapt={"request": Jsonb, "reply": Jsonb},
    ),
    _Texts(
        read="""
        SELECT id, arguments, output, error, agent_run_id AS agent FROM tool_call
         WHERE run_id = ANY(%s::uuid[])
        """,
        # The column is never null, its value may be.
        write="""
        UPDATE tool_call
           SET arguments = COALESCE(%(arguments)s, 'null'), output = %(output)s, error = %(error)s,
               updated_at = clock_timestamp()
         WHERE id = %(id)s
        """,
        adapt={"arguments": Json, "output": Json},
    ),
    _Texts(
        read="""
        SELECT id, prompt, NULL AS agent FROM agent_run
         WHERE run_id = ANY(%s::uuid[]) AND prompt IS NOT NULL
        """,
        write="UPDATE agent_run SET prompt = %(prompt)s WHERE id = %(id)s",
    ),
    _Texts(
        read="""
        SELECT a.id, a.added, a.parent_id AS agent FROM agent_run a
         WHERE a.run_id = ANY(%s::uuid[]) AND muster_is_done_with(a)
        """,
        write="UPDATE agent_run SET added = %(added)s WHERE id = %(id)s",
        adapt={"added": Json},
    ),
    _Texts(
        read="""
        SELECT id, content, NULL AS agent FROM agent_message WHERE run_id = ANY(%s::uuid[])
        """,
        write="SELECT muster_reword_message(%(id)s, %(content)s)",
        adapt={"content": Json},
    ),
    _Texts(
        read="SELECT id, value, NULL AS agent FROM context_value WHERE run_id = ANY(%s::uuid[])",
        write="SELECT muster_reword_value(%(id)s, %(value)s)",
        adapt={"value": Json},
    ),
    _Texts(
        read="SELECT id, text, NULL AS agent FROM todo WHERE run_id = ANY(%s::uuid[])",
        write="UPDATE todo SET text = %(text)s WHERE id = %(id)s",
    ),
    _Texts(
        read="""
        SELECT id, question, show, NULL AS agent FROM approval WHERE run_id = ANY(%s::uuid[])
        """,
        write="UPDATE approval SET question = %(question)s, show = %(show)s WHERE id = %(id)s",
        adapt={"show": Json},
    ),
    _Texts(
        read="""
        SELECT effect, agent_run_id AS agent FROM call_effect WHERE run_id = ANY(%s::uuid[])
        """,
    ),
)


def tenants_to_treat(connection: Connection[Row]) -> list[UUID]:
    """Those that want anything but all of it kept for ever."""
    return [row["tenant_id"] for row in rows(connection, _TENANTS, [])]


def treat_ended_runs(connection: Connection[Row], tenant_id: UUID) -> bool:
    """Redact and remove what the tenant wants so, in some of its runs; true if there are more."""
    has_more = False
    for due in rows(connection, _DUE, [tenant_id]):
        if due["treat_until"]:
            treat = _remove if due["keeps"] == Keeps.NONE else _redact
            span = (due["treated_after"], due["treat_until"])
            has_more |= _treat(connection, due, span, treat, note=_TREATED)
        if due["remove_until"]:
            span = (due["removed_after"], due["remove_until"])
            has_more |= _treat(connection, due, span, _remove, note=_REMOVED)
    return has_more


def _treat(
    connection: Connection[Row],
    due: Row,
    span: tuple[datetime, datetime],
    treat: Callable[[Connection[Row], list[UUID]], None],
    *,
    note: str,
) -> bool:
    ended = rows(connection, _ENDED, [due["tenant_id"], *span, MOST_RUNS])
    if not ended:
        return False
    held = rows(connection, _HOLD, [[run["id"] for run in ended]])
    treat(connection, [run["id"] for run in held])
    rows(connection, note, [ended[-1]["finished_at"], due["id"]])
    return len(ended) >= MOST_RUNS


def _remove(connection: Connection[Row], runs: list[UUID]) -> None:
    rows(connection, _REMOVE, [runs])


def _redact(connection: Connection[Row], runs: list[UUID]) -> None:
    changed: set[UUID] = set()
    for texts in _ALL:
        changed.update(_redact_in(connection, texts, runs))
    # They would go on with marks where words were.
    rows(connection, _BEGIN_ANEW, [runs, list(changed)])
    rows(connection, _FORGET_EFFECTS, [runs])


def _redact_in(connection: Connection[Row], texts: _Texts, runs: list[UUID]) -> set[UUID]:
    """Strike out what is to be struck out; whose texts these were."""
    agents: set[UUID] = set()
    with connection.cursor(name="texts") as found, connection.cursor() as writing:
        found.execute(texts.read, [runs])
        while portion := found.fetchmany(_PORTION):
            struck = [after for row in portion if (after := _redacted(row)) != row]
            agents.update(row["agent"] for row in struck if row["agent"])
            if texts.write:
                writing.executemany(texts.write, [_adapted(row, texts.adapt) for row in struck])
    return agents


def _redacted(row: Row) -> Row:
    return {name: redacted(value) for name, value in row.items()}


def _adapted(row: Row, kinds: Mapping[str, type[Json] | type[Jsonb]]) -> Row:
    written = {name: kind(row[name]) for name, kind in kinds.items() if row[name] is not None}
    return {**row, **written}
