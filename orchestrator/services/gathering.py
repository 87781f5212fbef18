"""Maps and sub-workflows at work: begins what has room, and ends what has ended."""

from __future__ import annotations

from typing import Any

from orchestrator.core.errors import MapError
from orchestrator.core.mapping import Item, gathered, most_at_once
from orchestrator.core.places import Scope
from orchestrator.core.plan import Plan, PlannedStep
from orchestrator.core.spec import MapSpec
from orchestrator.core.state import AgentRunStatus, RunStatus
from orchestrator.execution.engine_db import Row, rows
from orchestrator.services.rounds import Rounds
from orchestrator.services.run_pass import failed

_OPEN_MAPS = "SELECT * FROM muster_open_maps(%s)"
_ITEMS = """
SELECT status, status_reason, output FROM agent_run
 WHERE run_id = %s AND parent_id = %s ORDER BY item_index
"""
_NEXT_ITEMS = """
SELECT step, item, item_index FROM agent_run
 WHERE run_id = %s AND parent_id = %s AND status = 'pending' ORDER BY item_index LIMIT %s
"""
_ENDED_CALLS = "SELECT * FROM muster_ended_calls(%s)"
_COST = "UPDATE agent_run SET cost_nano = %s WHERE id = %s RETURNING id"


class Gathering(Rounds):
    def _drive_maps(self, plan: Plan) -> bool:
        """Take every map that is at work a step further; true if more follows at once."""
        maps = rows(self.connection, _OPEN_MAPS, [self.run_id])
        # All of them, whatever comes of the first.
        changed = [self._drive_map(plan, row) for row in maps]
        return any(changed)

    def _drive_map(self, plan: Plan, row: Row) -> bool:
        scope = self._scope(plan, row["step"])
        step = scope.step_at(row["step"])
        if step.map is None:
            return False
        if not row["unsettled"]:
            self._end_map(row, step.map)
            return True
        room = most_at_once(step, window=scope.plan.window) - row["at_work"]
        # Agents need nobody here: the place of one goes to the next as it ends.
        if step.kind == "agent" or not row["pending"] or room <= 0:
            return False
        return self._begin_items(row, scope, step, room=room)

    def _begin_items(self, row: Row, scope: Scope, step: PlannedStep, *, room: int) -> bool:
        items = rows(self.connection, _NEXT_ITEMS, [self.run_id, row["agent_run_id"], room])
        goes_on = [
            self._begin_at(
                item["step"], scope, step, {"item": item["item"], "index": item["item_index"]}
            )
            for item in items
        ]
        return not all(goes_on)

    def _end_map(self, row: Row, spec: MapSpec) -> None:
        items = [
            Item(
                status=AgentRunStatus(item["status"]),
                output=item["output"],
                reason=item["status_reason"],
            )
            for item in rows(self.connection, _ITEMS, [self.run_id, row["agent_run_id"]])
        ]
        outcome: dict[str, Any]
        try:
            output = gathered(spec, items)
            outcome = {
                "status": AgentRunStatus.COMPLETED,
                "output": output,
                "reason": row["reason"],
            }
        except MapError as error:
            outcome = failed(error.code, str(error))
        self._end(row, **outcome)

    def _end_calls(self) -> bool:
        """End the steps whose sub-workflows have ended; true if there were any."""
        ended = rows(self.connection, _ENDED_CALLS, [self.run_id])
        for row in ended:
            rows(self.connection, _COST, [row["cost_nano"], row["agent_run_id"]])
            if row["status"] in {RunStatus.COMPLETED, RunStatus.PARTIALLY_COMPLETED}:
                self._end(row, status=AgentRunStatus.COMPLETED, output=row["output"])
            elif row["status"] == RunStatus.CANCELLED and (
                self.is_stopping or row["is_called_back"]
            ):
                self._end(row, status=AgentRunStatus.CANCELLED, reason=row["reason"])
            elif row["status"] == RunStatus.BUDGET_EXCEEDED:
                self._end(row, status=AgentRunStatus.BUDGET_EXCEEDED, reason=row["reason"])
            else:
                told = f"Its run ended {row['status'].replace('_', ' ')}: {row['reason']}"
                self._end(row, **failed("sub_workflow_failed", told))
        return bool(ended)
