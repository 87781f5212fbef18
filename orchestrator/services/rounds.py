"""Takes loops from round to round."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from psycopg.types.json import Json

from orchestrator.core.errors import ConditionError, TemplateError
from orchestrator.core.places import Scope, Surroundings
from orchestrator.core.plan import LoopPlan, Plan
from orchestrator.core.scheduling import Decision, Progress, ready
from orchestrator.core.state import AgentRunStatus
from orchestrator.execution.engine_db import Row, rows
from orchestrator.services.beginning import Beginning
from orchestrator.services.run_pass import failed, holds

_ADD_ROUND = "SELECT muster_add_round(%s, %s, %s, %s, %s)"
_OPEN_LOOPS = "SELECT * FROM muster_open_loops(%s)"
_REASONS = """
SELECT step, status, status_reason FROM agent_run
 WHERE run_id = %s AND parent_id = %s AND item_index = %s ORDER BY finished_at
"""
_QUEUE_STEPS = "SELECT * FROM muster_queue_steps(%s, %s, %s)"


class Rounds(Beginning):
    def _drive_loops(self, plan: Plan) -> bool:
        """Take every loop that is at work a step further; true if more follows at once."""
        loops = rows(self.connection, _OPEN_LOOPS, [self.run_id])
        due: list[str] = []
        # All of them, whatever comes of the first.
        changed = [self._drive_loop(plan, row, due) for row in loops]
        if due:
            self.hints += self._call(_QUEUE_STEPS, due)
        return any(changed)

    def _drive_loop(self, plan: Plan, row: Row, due: list[str]) -> bool:
        outer = Scope.of(plan, row["step"])
        loop = outer.step_at(row["step"]).loop
        if loop is None:
            return False
        if row["round"] is None:
            return self._add_round(row, loop, outer.inside(Surroundings(row["step"], 0)))
        scope = outer.inside(Surroundings(row["step"], row["round"]))
        progress = Progress.of(scope.named(row["statuses"] or {}), None, scope.named(self.judged))
        decision = ready(loop.body, progress)
        if decision.is_settled and not decision.skip:
            return self._end_round(row, loop, scope)
        due += [scope.place(name) for name in decision.dispatch]
        return self._act_in_round(scope, decision)

    def _act_in_round(self, scope: Scope, decision: Decision) -> bool:
        if decision.judge:
            self._judge(scope, decision.judge)
            return True
        self._settle(AgentRunStatus.SKIPPED, scope.placed(decision.skip))
        self._settle(AgentRunStatus.FAILED, scope.placed(decision.fail))
        goes_on = [self._begin(scope, scope.plan.step(name)) for name in decision.wait]
        return bool(decision.skip or decision.fail) or not all(goes_on)

    def _add_round(self, row: Row, loop: LoopPlan, scope: Scope) -> bool:
        steps = [scope.row(step) for step in loop.body.steps]
        self._call(_ADD_ROUND, row["agent_run_id"], scope.around.round, Json(steps))
        return True

    def _end_round(self, row: Row, loop: LoopPlan, scope: Scope) -> bool:
        """The round is over: the loop ends, or goes into its next round."""
        outcome = self._outcome_of_round(row, loop, scope)
        if outcome is None:
            following = Surroundings(row["step"], row["round"] + 1)
            return self._add_round(row, loop, replace(scope, around=following))
        self._end(row, **outcome)
        return True

    def _outcome_of_round(self, row: Row, loop: LoopPlan, scope: Scope) -> dict[str, Any] | None:
        """How the loop ends with this round, or None if another follows."""
        number = row["round"] + 1
        arguments = [self.run_id, row["agent_run_id"], row["round"]]
        for step in rows(self.connection, _REASONS, arguments):
            if step["status"] not in {AgentRunStatus.COMPLETED, AgentRunStatus.SKIPPED}:
                why = f": {step['status_reason']}" if step["status_reason"] else ""
                name = scope.name(step["step"])
                return failed("loop_failed", f"Round {number}: `{name}` {step['status']}{why}")
        context = self._context(scope, loop.until_reads, loop.until_reads)
        agreed = holds(loop.until, context)
        if isinstance(agreed, str):
            return failed(ConditionError.code, agreed)
        if not agreed and number < loop.max_rounds:
            return None
        if not agreed and loop.on_exhausted == "fail":
            told = f"Its condition `{loop.until}` did not hold within {number} rounds"
            return failed("loop_exhausted", told)
        output = self._output(scope)
        if output.problem:
            return failed(TemplateError.code, output.problem)
        return {"status": AgentRunStatus.COMPLETED, "output": output.value}
