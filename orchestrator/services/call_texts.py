"""What is left of the texts of calls once their run has ended, as each tenant has set it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from psycopg import Connection
from psycopg.types.json import Json, Jsonb

from orchestrator.core.redaction import redacted
from orchestrator.execution.engine_db import Row, rows
from orchestrator.models.calls import Keeps

# In one transaction; the rest goes the next time.
_MOST_RUNS: Final = 200

# By the database's clock, and a minute late, since an end may be written before it can be seen.
_DUE: Final = """
SELECT s.id, s.tenant_id, s.keeps,
       COALESCE(s.treated_until, 'epoch') AS treated_after,
       CASE WHEN s.keeps <> 'full' THEN clock_timestamp() - interval '1 minute' END AS treat_until,
       COALESCE(s.removed_until, 'epoch') AS removed_after,
       clock_timestamp() - make_interval(days => s.keep_days, mins => 1) AS remove_until
  FROM call_settings s WHERE s.keeps <> 'full' OR s.keep_days IS NOT NULL ORDER BY s.tenant_id
"""
_ENDED: Final = "SELECT * FROM muster_ended_runs(%s, %s, %s, %s)"
_REMOVE: Final = "SELECT muster_remove_texts(%s::uuid[])"
_TREATED: Final = "UPDATE call_settings SET treated_until = %s WHERE id = %s RETURNING 1"
_REMOVED: Final = "UPDATE call_settings SET removed_until = %s WHERE id = %s RETURNING 1"
_CALLS: Final = "SELECT id, request, reply FROM llm_call WHERE run_id = ANY(%s::uuid[])"
_WRITE_CALL: Final = "UPDATE llm_call SET request = %s, reply = %s WHERE id = %s RETURNING 1"
_TOOLS: Final = "SELECT id, arguments, output, error FROM tool_call WHERE run_id = ANY(%s::uuid[])"
_WRITE_TOOL: Final = (
    "UPDATE tool_call SET arguments = %s, output = %s, error = %s WHERE id = %s RETURNING 1"
)
_PROMPTS: Final = (
    "SELECT id, prompt FROM agent_run WHERE run_id = ANY(%s::uuid[]) AND prompt IS NOT NULL"
)
_WRITE_PROMPT: Final = "UPDATE agent_run SET prompt = %s WHERE id = %s RETURNING 1"


_SHOWN: Final = (
    "SELECT id, show FROM approval WHERE run_id = ANY(%s::uuid[]) AND tool_call_id IS NOT NULL"
)
_WRITE_SHOWN: Final = "UPDATE approval SET show = %s WHERE id = %s RETURNING 1"


def treat_ended_runs(connection: Connection[Row]) -> int:
    """Redact and remove what tenants want so; in how many runs."""
    treated = 0
    for due in rows(connection, _DUE, []):
        if due["treat_until"]:
            runs = _ended(connection, due, due["treated_after"], due["treat_until"])
            _treat(connection, [run["id"] for run in runs], keeps=due["keeps"])
            treated += _note(connection, _TREATED, due["id"], runs)
        if due["remove_until"]:
            runs = _ended(connection, due, due["removed_after"], due["remove_until"])
            rows(connection, _REMOVE, [[run["id"] for run in runs]])
            treated += _note(connection, _REMOVED, due["id"], runs)
    return treated


def _ended(connection: Connection[Row], due: Row, after: datetime, until: datetime) -> list[Row]:
    return rows(connection, _ENDED, [due["tenant_id"], after, until, _MOST_RUNS])


def _note(connection: Connection[Row], query: str, settings_id: UUID, runs: Sequence[Row]) -> int:
    if runs:
        until: datetime = runs[-1]["finished_at"]
        rows(connection, query, [until, settings_id])
    return len(runs)


def _treat(connection: Connection[Row], runs: list[UUID], *, keeps: str) -> None:
    if keeps == Keeps.NONE:
        rows(connection, _REMOVE, [runs])
        return
    for call in rows(connection, _CALLS, [runs]):
        written = [Jsonb(redacted(call["request"])), _json(redacted(call["reply"]), Jsonb)]
        rows(connection, _WRITE_CALL, [*written, call["id"]])
    for used in rows(connection, _TOOLS, [runs]):
        parts = [_json(redacted(used[name]), Json) for name in ("arguments", "output")]
        # The column is never null, its value may be.
        parts[0] = parts[0] or Json(None)
        rows(connection, _WRITE_TOOL, [*parts, redacted(used["error"]), used["id"]])
    for asked in rows(connection, _SHOWN, [runs]):
        rows(connection, _WRITE_SHOWN, [_json(redacted(asked["show"]), Json), asked["id"]])
    for agent_run in rows(connection, _PROMPTS, [runs]):
        rows(connection, _WRITE_PROMPT, [redacted(agent_run["prompt"]), agent_run["id"]])


def _json(value: Any, kind: type[Json] | type[Jsonb]) -> Any:
    return None if value is None else kind(value)
