"""Moves a run on: the one place that decides what may start and when a run has ended."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import structlog
from django.db import OperationalError as DjangoOperationalError
from psycopg import Connection, OperationalError
from psycopg.types.json import Json
from psycopg_pool import PoolTimeout

from orchestrator.core.completion import Outcome, Verdict, verdict
from orchestrator.core.conditions import compile_condition
from orchestrator.core.errors import ConditionError, MapError, TemplateError
from orchestrator.core.hints import hints_of
from orchestrator.core.mapping import Item, gathered, items_of
from orchestrator.core.output import Output, assemble
from orchestrator.core.places import Scope, Surroundings
from orchestrator.core.plan import LoopPlan, Plan, PlannedStep
from orchestrator.core.scheduling import Decision, Progress, ready
from orchestrator.core.spec import MapSpec
from orchestrator.core.state import AgentRunStatus, RunStatus, WaitingReason
from orchestrator.dispatch.canvas import publish
from orchestrator.dispatch.live import nudge
from orchestrator.execution import approvals, engine_db
from orchestrator.execution.crashpoints import crash_here
from orchestrator.execution.engine_db import Row, rows
from orchestrator.execution.errors import PlanUnreadableError
from orchestrator.execution.finishes import Finish, finish_within
from orchestrator.execution.versions import plan_of
from orchestrator.services.children import start_children

log = structlog.get_logger(__name__)

# For so long a pass is tried again while the database is away, or another holds what it needs.
PATIENCE_SECONDS = 5.0

_BEGIN = "SELECT * FROM muster_begin_advance(%s, %s)"
_SETTLE = "SELECT * FROM muster_settle_steps(%s, %s, %s, %s, %s, %s)"
_WAIT = "SELECT muster_start_wait(%s, %s, %s, %s, %s)"
_STOP = "SELECT muster_stop_steps(%s, %s, %s, %s) AS running"
_TOP_UP = "SELECT * FROM muster_top_up(%s, %s, '{}')"
_QUEUE_LEVEL = "SELECT * FROM muster_queue_level(%s, %s, %s, %s, %s)"
_QUEUE_STEPS = "SELECT * FROM muster_queue_steps(%s, %s, %s)"
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
_STOP_CALLS = "SELECT * FROM muster_stop_calls(%s, %s, %s)"
_TELL_PARENT = "SELECT * FROM muster_tell_parent(%s, %s)"
_COST = "UPDATE agent_run SET cost_nano = %s WHERE id = %s RETURNING id"
_OUTCOMES = """
SELECT step, status, status_reason FROM agent_run WHERE run_id = %s AND parent_id IS NULL
"""
_OUTPUTS = "SELECT step, output FROM agent_run WHERE run_id = %s AND step = ANY(%s)"
_INPUT = "SELECT input FROM run WHERE id = %s"
_FINISH = "SELECT muster_finish_run(%s, %s, %s, %s, %s)"


def advance(tenant_id: UUID, run_id: UUID) -> None:
    """Hand out what is due, from the rows alone. Twice, early or never is harmless."""
    until = time.monotonic() + PATIENCE_SECONDS
    pass_ = engine_db.persistently(
        lambda: _worked(tenant_id, run_id), give_up=lambda: time.monotonic() > until
    )
    if pass_ is None:
        # The sweeper finds that nobody drives the run.
        return
    crash_here("in_advance")
    publish(hints_of(tenant_id, pass_.hints))
    try:
        _reach_out(pass_)
    except (OperationalError, DjangoOperationalError, PoolTimeout) as error:
        # The sweeper finds children that nobody started, and parents that nobody told.
        log.warning("database_away", error=type(error).__name__)
    nudge(run_id)


def _reach_out(pass_: _Advance) -> None:
    """To the runs below and above."""
    if pass_.has_calls:
        start_children(pass_.tenant_id, pass_.run_id)
    if pass_.has_ended:
        told = engine_db.many(_TELL_PARENT, pass_.tenant_id, pass_.run_id)
        publish(hints_of(pass_.tenant_id, told))


def _worked(tenant_id: UUID, run_id: UUID) -> _Advance:
    with engine_db.transaction() as connection:
        pass_ = _Advance(connection, tenant_id, run_id)
        pass_.work()
        crash_here("in_advance")
    return pass_


@dataclass(slots=True)
class _Advance:
    """One pass over a locked run, inside its transaction."""

    connection: Connection[Row]
    tenant_id: UUID
    run_id: UUID
    judged: dict[str, bool | str] = field(default_factory=dict)
    hints: list[Row] = field(default_factory=list)
    has_calls: bool = False  # there may be sub-workflows to be started
    has_ended: bool = False
    is_stopping: bool = False

    def work(self) -> None:
        begun = self._call(_BEGIN)
        while begun and self._step(begun[0]):
            begun = self._call(_BEGIN)

    def _step(self, begun: Row) -> bool:
        """Act on one decision; true if another follows at once."""
        self.is_stopping = bool(begun["stop_wanted"])
        if self.is_stopping:
            return self._end_calls() or self._stop(begun)
        try:
            plan = plan_of(self.tenant_id, begun["version_id"], connection=self.connection)
        except PlanUnreadableError as error:
            self._call(_STOP, AgentRunStatus.CANCELLED, str(error))
            self._end_run(RunStatus.FAILED, str(error))
            return False
        self.has_calls = plan.has_calls
        if self._end_calls() or self._end_maps(plan) or self._drive_loops(plan):
            return True
        progress = Progress.of(begun["statuses"], begun["unsettled"], self.judged)
        return self._act(plan, ready(plan, progress))

    def _act(self, plan: Plan, decision: Decision) -> bool:
        scope = Scope(plan)
        if decision.judge:
            self._judge(scope, decision.judge)
            return True
        if decision.stop:
            if not self._call_back(AgentRunStatus.SKIPPED, decision.stop):
                self._finish(plan)
            return False
        self._settle(AgentRunStatus.SKIPPED, decision.skip)
        self._settle(AgentRunStatus.FAILED, decision.fail)
        if decision.fail:
            return True
        if decision.is_settled:
            self._finish(plan)
            return False
        # All of them, whatever comes of the first.
        goes_on = [self._begin(scope, plan.step(name)) for name in decision.wait]
        if not all(goes_on):
            return True
        self._dispatch(plan, decision)
        return False

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
            outcome = _failed(error.code, str(error))
        self._end(row, **outcome)

    def _end(self, row: Row, **outcome: Any) -> None:
        """End an agent run that stands for others."""
        self.hints += finish_within(
            self.connection,
            Finish(
                tenant_id=self.tenant_id,
                agent_run_id=row["agent_run_id"],
                attempt=row["attempt"],
                **outcome,
            ),
        )

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
                self._end(row, **_failed("sub_workflow_failed", told))
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
                return _failed("loop_failed", f"Round {number}: `{name}` {step['status']}{why}")
        context = self._context(scope, loop.until_reads, loop.until_reads)
        agreed = _holds(loop.until, context)
        if isinstance(agreed, str):
            return _failed(ConditionError.code, agreed)
        if not agreed and number < loop.max_rounds:
            return None
        if not agreed and loop.on_exhausted == "fail":
            told = f"Its condition `{loop.until}` did not hold within {number} rounds"
            return _failed("loop_exhausted", told)
        output = self._output(scope)
        if output.problem:
            return _failed(TemplateError.code, output.problem)
        return {"status": AgentRunStatus.COMPLETED, "output": output.value}

    def _dispatch(self, plan: Plan, decision: Decision) -> None:
        if not decision.dispatch:
            self.hints += self._call(_TOP_UP)
        elif decision.level is None:
            self.hints += self._call(_QUEUE_STEPS, list(decision.dispatch))
        else:
            is_fixed = plan.fixed_window is not None
            self.hints += self._call(_QUEUE_LEVEL, decision.level, plan.window, is_fixed)

    def _settle(
        self,
        status: AgentRunStatus,
        reasons: Mapping[str, str],
        *,
        code: str = ConditionError.code,
    ) -> None:
        if reasons:
            why = list(reasons.values())
            self.hints += self._call(_SETTLE, status, list(reasons), why, code)

    def _judge(self, scope: Scope, names: Sequence[str]) -> None:
        """Evaluate the conditions of steps, once: this transaction acts on what they give."""
        steps = [scope.plan.step(name) for name in names]
        read = {need for step in steps for need in step.when_reads}
        context = self._context(scope, read, read)
        for step in steps:
            self.judged[scope.place(step.name)] = _holds(step.when or "", context)

    def _context(
        self, scope: Scope, read: Iterable[str], previous: Iterable[str] = ()
    ) -> dict[str, Any]:
        """The run's input and the outputs of some steps, as templates and conditions see them."""
        return {
            "input": self._input(),
            **scope.around.variables(self._outputs(scope, read, previous)),
        }

    def _outputs(
        self, scope: Scope, read: Iterable[str], previous: Iterable[str] = ()
    ) -> dict[str, Any]:
        """Outputs by the place that they come from."""
        places = scope.places(read, previous)
        found = rows(self.connection, _OUTPUTS, [self.run_id, places])
        return {row["step"]: row["output"] for row in found}

    def _stop(self, begun: Row) -> bool:
        if not self._call_back(AgentRunStatus.CANCELLED, begun["stop_reason"]):
            self._end_run(begun["stop_wanted"], begun["stop_reason"])
        return False

    def _call_back(self, pending: AgentRunStatus, reason: str) -> int:
        """Call back what no worker has begun; the number of those that are still at work."""
        self.hints += self._call(_STOP_CALLS, reason)
        return int(self._call(_STOP, pending, reason)[0]["running"])

    def _finish(self, plan: Plan) -> None:
        ended = self._verdict(plan)
        output = self._output(Scope(plan))
        reason = f"{ended.reason}. {output.problem}" if output.problem else ended.reason
        self._end_run(ended.status, reason, output.value)

    def _end_run(self, status: str, reason: str, output: Any = None) -> None:
        self._call(_FINISH, status, reason, Json(output))
        self.has_ended = True

    def _verdict(self, plan: Plan) -> Verdict:
        outcomes = [
            Outcome(
                name=row["step"],
                status=AgentRunStatus(row["status"]),
                # The author's, not the one that the run's urgency made of it.
                priority=plan.step(row["step"]).priority,
                reason=row["status_reason"],
            )
            for row in rows(self.connection, _OUTCOMES, [self.run_id])
        ]
        return verdict(outcomes, plan.failure)

    def _output(self, scope: Scope) -> Output:
        outputs = self._outputs(scope, scope.plan.output_reads)
        by_name = {scope.name(place): output for place, output in outputs.items()}
        return assemble(scope.plan, input=self._input(), outputs=by_name)

    def _input(self) -> Any:
        return rows(self.connection, _INPUT, [self.run_id])[0]["input"]

    def _call(self, query: str, *arguments: Any) -> list[Row]:
        return rows(self.connection, query, [self.tenant_id, self.run_id, *arguments])


def _failed(code: str, reason: str) -> dict[str, Any]:
    told = {"code": code, "message": reason}
    return {"status": AgentRunStatus.FAILED, "reason": reason, "error": told}


def _holds(condition: str, context: Mapping[str, Any]) -> bool | str:
    """What the condition gives, or the sentence why it gives nothing."""
    try:
        return compile_condition(condition).evaluate(context)
    except ConditionError as error:
        return str(error)
