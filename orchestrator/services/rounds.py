"""Takes loops from round to round, and steps that were added from one to the next."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from orchestrator.core.errors import ConditionError, TemplateError
from orchestrator.core.places import Scope, Surroundings
from orchestrator.core.plan import LoopPlan, Plan
from orchestrator.core.scheduling import ready
from orchestrator.core.state import AgentRunStatus
from orchestrator.execution.engine_db import Row, rows
from orchestrator.services.adding import Adding
from orchestrator.services.run_pass import failed, holds

_OPEN_LOOPS = "SELECT * FROM muster_open_loops(%s)"
_QUEUE_STEPS = "SELECT * FROM muster_queue_steps(%s, %s, %s)"


class Rounds(Adding):
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
        outer = self._scope(plan, row["step"])
        if row["kind"] == "steps":
            return self._drive_added(outer, row, due)
        loop = outer.step_at(row["step"]).loop
        if loop is None:
            return False
        if row["round"] is None:
            return self._add_round(row, outer.in_round(row["step"], 0))
        scope = outer.in_round(row["step"], row["round"])
        decision = ready(loop.body, self._progress(scope, row))
        if decision.is_settled and not decision.skip:
            return self._end_round(row, loop, scope)
        return self._act_in(scope, decision, due)

    def _end_round(self, row: Row, loop: LoopPlan, scope: Scope) -> bool:
        """The round is over: the loop ends, or goes into its next round."""
        outcome = self._outcome_of_round(row, loop, scope)
        if outcome is None:
            following = Surroundings(row["step"], row["round"] + 1)
            return self._add_round(row, replace(scope, around=following))
        self._end(row, **outcome)
        return True

    def _outcome_of_round(self, row: Row, loop: LoopPlan, scope: Scope) -> dict[str, Any] | None:
        """How the loop ends with this round, or None if another follows."""
        number = row["round"] + 1
        for step in self._endings(row):
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
