"""What loops and added steps have in common: steps of a run that another agent run stands for."""

from __future__ import annotations

from psycopg.types.json import Json

from orchestrator.core.places import Scope
from orchestrator.core.scheduling import Decision, Progress
from orchestrator.core.state import AgentRunStatus
from orchestrator.execution.engine_db import Row, rows
from orchestrator.services.beginning import Beginning

_ADD_ROUND = "SELECT muster_add_round(%s, %s, %s, %s, %s)"
_ENDINGS = """
SELECT step, status, status_reason FROM agent_run
 WHERE run_id = %s AND parent_id = %s AND item_index = %s ORDER BY finished_at
"""


class Parts(Beginning):
    def _progress(self, scope: Scope, row: Row) -> Progress:
        statuses = scope.named(row["statuses"] or {})
        judged = scope.named(self.judged)
        return Progress.within(scope.plan, statuses, judged, self.standing.skips)

    def _act_in(self, scope: Scope, decision: Decision, due: list[str]) -> bool:
        """Act on what may start in a scope; what is for workers goes into `due`."""
        if decision.judge:
            self._judge(scope, decision.judge)
            return True
        self._skip(scope.placed(decision.skip))
        self._settle(AgentRunStatus.FAILED, scope.placed(decision.fail))
        goes_on = [self._begin(scope, scope.plan.step(name)) for name in decision.wait]
        due += [scope.place(name) for name in decision.dispatch]
        return bool(decision.skip or decision.fail) or not all(goes_on)

    def _add_round(self, row: Row, scope: Scope) -> bool:
        steps = [scope.row(step) for step in scope.plan.steps]
        self._call(_ADD_ROUND, row["agent_run_id"], scope.around.round or 0, Json(steps))
        return True

    def _endings(self, row: Row) -> list[Row]:
        """How the steps have ended, one after another."""
        return rows(self.connection, _ENDINGS, [self.run_id, row["agent_run_id"], row["round"]])
