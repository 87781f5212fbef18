"""Moves a run on: the one place that decides what may start and when a run has ended."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.types.json import Json

from orchestrator.core.completion import Outcome, Verdict, verdict
from orchestrator.core.conditions import compile_condition
from orchestrator.core.errors import ConditionError, MapError, TemplateError
from orchestrator.core.hints import hints_of
from orchestrator.core.mapping import Item, gathered, items_of
from orchestrator.core.output import Output, assemble
from orchestrator.core.plan import Plan, PlannedStep
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

# At most so many agent runs of a run are in flight; wider levels follow as places come free.
MAX_WINDOW = 1000

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
_OUTCOMES = """
SELECT step, status, status_reason FROM agent_run WHERE run_id = %s AND parent_id IS NULL
"""
_OUTPUTS = "SELECT step, output FROM agent_run WHERE run_id = %s AND step = ANY(%s)"
_INPUT = "SELECT input FROM run WHERE id = %s"
_FINISH = "SELECT muster_finish_run(%s, %s, %s, %s, %s)"


def advance(tenant_id: UUID, run_id: UUID) -> None:
    """Hand out what is due, from the rows alone. Twice, early or never is harmless."""
    with engine_db.transaction() as connection:
        hints = _Advance(connection, tenant_id, run_id).work()
        crash_here("in_advance")
    crash_here("in_advance")
    publish(hints_of(tenant_id, hints))
    nudge(run_id)


def window_of(plan: Plan) -> int:
    """How many agent runs of a run may be in flight."""
    return min(plan.max_parallel or MAX_WINDOW, MAX_WINDOW)


@dataclass(slots=True)
class _Advance:
    """One pass over a locked run, inside its transaction."""

    connection: Connection[Row]
    tenant_id: UUID
    run_id: UUID
    judged: dict[str, bool | str] = field(default_factory=dict)
    hints: list[Row] = field(default_factory=list)

    def work(self) -> Sequence[Row]:
        """What is to be published."""
        begun = self._call(_BEGIN)
        while begun and self._step(begun[0]):
            begun = self._call(_BEGIN)
        return self.hints

    def _step(self, begun: Row) -> bool:
        """Act on one decision; true if another follows at once."""
        if begun["stop_wanted"]:
            return self._stop(begun)
        try:
            plan = plan_of(self.tenant_id, begun["version_id"], connection=self.connection)
        except PlanUnreadableError as error:
            self._call(_STOP, AgentRunStatus.CANCELLED, str(error))
            self._call(_FINISH, RunStatus.FAILED, str(error), None)
            return False
        if self._end_maps(plan):
            return True
        progress = Progress.of(begun["statuses"], begun["unsettled"], self.judged)
        return self._act(plan, ready(plan, progress))

    def _act(self, plan: Plan, decision: Decision) -> bool:
        if decision.judge:
            self._judge(plan, decision.judge)
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
        if not all([self._begin(plan, plan.step(name)) for name in decision.wait]):
            return True
        self._dispatch(plan, decision)
        return False

    def _begin(self, plan: Plan, step: PlannedStep) -> bool:
        """Let a delay, an approval or a map begin; false if it has ended at once."""
        try:
            if step.map is not None:
                return self._begin_map(plan, step, step.map)
            if step.approval is not None:
                approvals.ask(
                    self.connection,
                    self.tenant_id,
                    self.run_id,
                    step=step,
                    context=self._context(step.reads),
                )
                return True
        except (MapError, TemplateError) as error:
            self._settle(AgentRunStatus.FAILED, {step.name: str(error)}, code=error.code)
            return False
        self._call(_WAIT, step.name, WaitingReason.DELAY, float(step.delay_seconds))
        return True

    def _begin_map(self, plan: Plan, step: PlannedStep, spec: MapSpec) -> bool:
        items = items_of(spec, self._context(step.map_reads))
        most = window_of(plan)
        parallel = min(spec.parallel or most, most)
        self.hints += self._call(_BEGIN_MAP, step.name, Json(items), parallel)
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
            told = {"code": error.code, "message": str(error)}
            outcome = {"status": AgentRunStatus.FAILED, "reason": str(error), "error": told}
        self.hints += finish_within(
            self.connection,
            Finish(
                tenant_id=self.tenant_id,
                agent_run_id=row["agent_run_id"],
                attempt=row["attempt"],
                **outcome,
            ),
        )

    def _dispatch(self, plan: Plan, decision: Decision) -> None:
        if not decision.dispatch:
            self.hints += self._call(_TOP_UP)
        elif decision.level is None:
            self.hints += self._call(_QUEUE_STEPS, list(decision.dispatch))
        else:
            is_fixed = plan.fixed_window is not None
            self.hints += self._call(_QUEUE_LEVEL, decision.level, window_of(plan), is_fixed)

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

    def _judge(self, plan: Plan, names: Sequence[str]) -> None:
        """Evaluate the conditions of steps, once: what they give is acted on in this transaction."""
        steps = [plan.step(name) for name in names]
        context = self._context({need for step in steps for need in step.when_reads})
        for step in steps:
            self.judged[step.name] = _holds(step.when or "", context)

    def _context(self, read: Iterable[str]) -> dict[str, Any]:
        """The run's input and the outputs of some steps, as templates and conditions see them."""
        outputs = rows(self.connection, _OUTPUTS, [self.run_id, list(read)])
        steps = {row["step"]: {"output": row["output"]} for row in outputs}
        return {"input": self._input(), "steps": steps}

    def _stop(self, begun: Row) -> bool:
        if not self._call_back(AgentRunStatus.CANCELLED, begun["stop_reason"]):
            self._call(_FINISH, begun["stop_wanted"], begun["stop_reason"], None)
        return False

    def _call_back(self, pending: AgentRunStatus, reason: str) -> int:
        """Call back what no worker has begun; the number of those that are still at work."""
        return int(self._call(_STOP, pending, reason)[0]["running"])

    def _finish(self, plan: Plan) -> None:
        ended = self._verdict(plan)
        output = self._output(plan)
        reason = f"{ended.reason}. {output.problem}" if output.problem else ended.reason
        self._call(_FINISH, ended.status, reason, Json(output.value))

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

    def _output(self, plan: Plan) -> Output:
        given = rows(self.connection, _OUTPUTS, [self.run_id, list(plan.output_reads)])
        outputs = {row["step"]: row["output"] for row in given}
        return assemble(plan, input=self._input(), outputs=outputs)

    def _input(self) -> Any:
        return rows(self.connection, _INPUT, [self.run_id])[0]["input"]

    def _call(self, query: str, *arguments: Any) -> list[Row]:
        return rows(self.connection, query, [self.tenant_id, self.run_id, *arguments])


def _holds(condition: str, context: Mapping[str, Any]) -> bool | str:
    """What the condition gives, or the sentence why it gives nothing."""
    try:
        return compile_condition(condition).evaluate(context)
    except ConditionError as error:
        return str(error)
