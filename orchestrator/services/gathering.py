"""Steps that no worker takes: delays, approvals, maps, loops and sub-workflows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from psycopg.types.json import Json

from orchestrator.core.errors import ConditionError, MapError, TemplateError
from orchestrator.core.mapping import Item, gathered, items_of
from orchestrator.core.places import Scope, Surroundings
from orchestrator.core.plan import LoopPlan, Plan, PlannedStep
from orchestrator.core.scheduling import Decision, Progress, ready
from orchestrator.core.spec import MapSpec
from orchestrator.core.state import AgentRunStatus, RunStatus, WaitingReason
from orchestrator.execution import approvals
from orchestrator.execution.engine_db import Row, rows
from orchestrator.services.run_pass import RunPass, failed, holds

_WAIT = "SELECT muster_start_wait(%s, %s, %s, %s, %s)"
_BEGIN_MAP = "SELECT * FROM muster_begin_map(%s, %s, %s, %s, %s)"
_OPEN_MAPS = "SELECT * FROM muster_open_maps(%s)"
_ITEMS = """
SELECT status, status_reason, output FROM agent_run
 WHERE run_id = %s AND parent_id = %s ORDER BY item_index
"""
_BEGIN_LOOP = "SELECT muster_begin_loop(%s, %s, %s)"
_ADD_ROUND = "SELECT muster_add_round(%s, %s, %s, %s, %s)"
_OPEN_LOOPS = "SELECT * FROM muster_open_loops(%s)"
_REASONS = """
SELECT step, status, status_reason FROM agent_run
 WHERE run_id = %s AND parent_id = %s AND item_index = %s ORDER BY finished_at
"""
_BEGIN_CALL = "SELECT * FROM muster_begin_call(%s, %s, %s)"
_ENDED_CALLS = "SELECT * FROM muster_ended_calls(%s)"
_COST = "UPDATE agent_run SET cost_nano = %s WHERE id = %s RETURNING id"
_QUEUE_STEPS = "SELECT * FROM muster_queue_steps(%s, %s, %s)"


class Gathering(RunPass):
    """Begins such steps, and ends those that stand for others once these have ended."""

    def _begin(self, scope: Scope, step: PlannedStep) -> bool:
        """Let what no worker takes begin; false if there is more to do about it at once."""
        place = scope.place(step.name)
        try:
            if step.map is not None:
                return self._begin_map(scope, step, step.map)
            if step.approval is not None:
                context = self._context(scope, step.reads, step.previous_reads)
                approvals.ask(
                    *(self.connection, self.tenant_id, self.run_id),
                    step=replace(step, name=place),
                    context=context,
                )
                return True
        except (MapError, TemplateError) as error:
            self._settle(AgentRunStatus.FAILED, {place: str(error)}, code=error.code)
            return False
        if step.loop is not None:
            self._call(_BEGIN_LOOP, place)
            return False
        if step.call is not None:
            self.hints += self._call(_BEGIN_CALL, place)
            return True
        self._call(_WAIT, place, WaitingReason.DELAY, float(step.delay_seconds))
        return True

    def _begin_map(self, scope: Scope, step: PlannedStep, spec: MapSpec) -> bool:
        items = items_of(spec, self._context(scope, step.map_reads, step.previous_reads))
        most = scope.plan.window
        parallel = min(spec.parallel or most, most)
        self.hints += self._call(_BEGIN_MAP, scope.place(step.name), Json(items), parallel)
        return bool(items)

    def _end_maps(self, plan: Plan) -> bool:
        """End the maps whose items are all settled; true if there were any."""
        maps = rows(self.connection, _OPEN_MAPS, [self.run_id])
        settled = [row for row in maps if not row["unsettled"]]
        for row in settled:
            spec = plan.step(row["step"]).map
            if spec is not None:
                self._end_map(row, spec)
        return bool(settled)

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
            outcome = {"status": AgentRunStatus.COMPLETED, "output": gathered(spec, items)}
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
            elif self.is_stopping and row["status"] == RunStatus.CANCELLED:
                self._end(row, status=AgentRunStatus.CANCELLED, reason=row["reason"])
            else:
                told = f"Its run ended {row['status'].replace('_', ' ')}: {row['reason']}"
                self._end(row, **failed("sub_workflow_failed", told))
        return bool(ended)

    def _drive_loops(self, plan: Plan) -> bool:
        """Take every loop that is at work a step further; true if more follows at once."""
        loops = rows(self.connection, _OPEN_LOOPS, [self.run_id])
        # All of them, whatever comes of the first.
        changed = [self._drive_loop(plan, row) for row in loops]
        return any(changed)

    def _drive_loop(self, plan: Plan, row: Row) -> bool:
        loop = plan.step(row["step"]).loop
        if loop is None:
            return False
        if row["round"] is None:
            return self._add_round(row, loop, number=0)
        scope = Scope(loop.body, Surroundings(row["step"], row["round"]))
        progress = Progress.of(scope.named(row["statuses"] or {}), None, scope.named(self.judged))
        decision = ready(loop.body, progress)
        if decision.is_settled and not decision.skip:
            return self._end_round(row, loop, scope)
        return self._act_in_round(scope, decision)

    def _act_in_round(self, scope: Scope, decision: Decision) -> bool:
        if decision.judge:
            self._judge(scope, decision.judge)
            return True
        self._settle(AgentRunStatus.SKIPPED, scope.placed(decision.skip))
        self._settle(AgentRunStatus.FAILED, scope.placed(decision.fail))
        goes_on = [self._begin(scope, scope.plan.step(name)) for name in decision.wait]
        if decision.dispatch:
            places = [scope.place(name) for name in decision.dispatch]
            self.hints += self._call(_QUEUE_STEPS, places)
        return bool(decision.skip or decision.fail) or not all(goes_on)

    def _add_round(self, row: Row, loop: LoopPlan, *, number: int) -> bool:
        scope = Scope(loop.body, Surroundings(row["step"], number))
        steps = [scope.row(step) for step in loop.body.steps]
        self._call(_ADD_ROUND, row["agent_run_id"], number, Json(steps))
        return True

    def _end_round(self, row: Row, loop: LoopPlan, scope: Scope) -> bool:
        """The round is over: the loop ends, or goes into its next round."""
        outcome = self._outcome_of_round(row, loop, scope)
        if outcome is None:
            return self._add_round(row, loop, number=row["round"] + 1)
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
