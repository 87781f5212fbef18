"""The journal of tools in the database: each call before it is made, and what it gave."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from psycopg.types.json import Json
from uuid_utils.compat import uuid7

from agents_app.core.journal import IN_DOUBT, ToolEnd
from agents_app.core.model import ToolCall
from orchestrator.execution import engine_db
from orchestrator.execution.claims import Claim
from orchestrator.execution.crashpoints import crash_here
from orchestrator.execution.engine_db import Row
from orchestrator.execution.errors import RunStoppingError
from orchestrator.execution.fenced import Fenced
from orchestrator.execution.leases import Lease

_BEGIN = "SELECT * FROM muster_begin_tools(%s, %s, %s, %s, %s::json)"
_END = "SELECT muster_end_tool(%s, %s, %s, %s, %s::json, %s) AS is_kept"


class ToolRows:
    """The tool journal of one attempt.

    Raises LeaseLostError once another attempt may be at work, and RunStoppingError where the run
    is to end: no tool is called for it any more.
    """

    def __init__(self, claim: Claim, lease: Lease) -> None:
        self._claim = claim
        self._lease = lease
        self._fenced = Fenced(claim, lease)
        self._begun: dict[tuple[int, str], UUID] = {}

    def begin(
        self, turn: int, calls: Sequence[ToolCall], *, repeatable: Collection[str]
    ) -> Mapping[str, ToolEnd]:
        if self._lease.stopping.is_set():
            raise RunStoppingError
        ids = {call.id: uuid7() for call in calls}
        told = [
            {
                "id": str(ids[call.id]),
                "call": call.id,
                "tool": call.name,
                "arguments": call.arguments,
                "repeatable": call.name in repeatable,
            }
            for call in calls
        ]
        claim = self._claim
        which = (claim.tenant_id, claim.agent_run_id, claim.attempt, turn)
        rows = self._fenced.persistently(lambda: engine_db.many(_BEGIN, *which, Json(told)))
        known = {row["call"]: end for row in rows if (end := self._end_in(row)) is not None}
        self._begun |= {(turn, call): row_id for call, row_id in ids.items() if call not in known}
        crash_here("before_tools")
        return known

    def end(self, turn: int, call_id: str, end: ToolEnd) -> None:
        crash_here("after_tool")
        is_failed = end.error is not None
        arguments: list[Any] = [
            *(self._claim.tenant_id, self._claim.agent_run_id, self._begun[turn, call_id]),
            "failed" if is_failed else "finished",
            None if is_failed else Json(end.output),
            end.error,
        ]
        row = self._fenced.persistently(lambda: engine_db.one(_END, *arguments))
        if not row or not row["is_kept"]:
            raise self._fenced.lost()

    def _end_in(self, row: Row) -> ToolEnd | None:
        match row["verdict"]:
            case "finished":
                return ToolEnd(output=row["output"])
            case "failed":
                return ToolEnd(error=row["error"])
            case "in_doubt":
                return IN_DOUBT
        self._fenced.checked(row)
        return None
