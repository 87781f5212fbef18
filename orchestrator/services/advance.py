"""Moves a run on: the one place that decides what may start and when a run has ended."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.types.json import Json

from orchestrator.core.completion import Outcome, Verdict, verdict
from orchestrator.core.conditions import compile_condition
from orchestrator.core.errors import ConditionError, TemplateError
from orchestrator.core.hints import hints_of
from orchestrator.core.output import Output, assemble
from orchestrator.core.plan import Plan, PlannedStep
from orchestrator.core.scheduling import Decision, Progress, ready
from orchestrator.core.state import AgentRunStatus, RunStatus, WaitingReason
from orchestrator.dispatch.canvas import publish
from orchestrator.dispatch.live import nudge
from orchestrator.execution import approvals, engine_db
from orchestrator.execution.crashpoints import crash_here
from orchestrator.execution.engine_db import Row, rows
from orchestrator.execution.errors import PlanUnreadableError
from orchestrator.execution.versions import plan_of

# At most so many agent runs of a run are in flight; wider levels follow as places come free.
MAX_WINDOW = 1000

_BEGIN = "SELECT * FROM muster_begin_advance(%s, %s)"
_SETTLE = "SELECT * FROM muster_settle_steps(%s, %s, %s, %s, %s, %s)"
_WAIT = "SELECT muster_start_wait(%s, %s, %s, %s, %s)"
_STOP = "SELECT muster_stop_steps(%s, %s, %s, %s) AS running"
_TOP_UP = "SELECT * FROM muster_top_up(%s, %s, '{}')"
_QUEUE_LEVEL = "SELECT * FROM muster_queue_level(%s, %s, %s, %s)"
_QUEUE_STEPS = "SELECT * FROM muster_queue_steps(%s, %s, %s)"
_OUTCOMES = "SELECT step, status, status_reason FROM agent_run WHERE run_id = %s"
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
        unasked = self._wait([plan.step(name) for name in decision.wait])
        self._settle(AgentRunStatus.FAILED, unasked, code=TemplateError.code)
        if unasked:
            return True
        self._dispatch(plan, decision)
        return False

    def _wait(self, steps: Sequence[PlannedStep]) -> dict[str, str]:
        """Let delays and approvals begin. Gives those that cannot ask, with the reason."""
        failed: dict[str, str] = {}
        for step in steps:
            if step.approval is None:
                self._call(_WAIT, step.name, WaitingReason.DELAY, float(step.delay_seconds))
                continue
            context = self._context(step.reads)
            try:
                approvals.ask(
                    self.connection, self.tenant_id, self.run_id, step=step, context=context
                )
            except TemplateError as error:
                failed[step.name] = str(error)
        return failed

    def _dispatch(self, plan: Plan, decision: Decision) -> None:
        if not decision.dispatch:
            self.hints += self._call(_TOP_UP)
        elif decision.level is None:
            self.hints += self._call(_QUEUE_STEPS, list(decision.dispatch))
        else:
            self.hints += self._call(_QUEUE_LEVEL, decision.level, window_of(plan))

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
