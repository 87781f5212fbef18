"""Moves a run on: the one place that decides what may start and when a run has ended."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.types.json import Json

from orchestrator.core.completion import Outcome, verdict
from orchestrator.core.output import Output, assemble
from orchestrator.core.plan import Plan, Progress, ready
from orchestrator.core.state import AgentRunStatus
from orchestrator.dispatch.canvas import AgentHint, publish_agents, publish_level
from orchestrator.execution import engine_db
from orchestrator.execution.engine_db import Row, rows
from orchestrator.execution.versions import plan_of

# One pipeline's worth of messages; wider levels follow as places come free.
MAX_WINDOW = 200

_BEGIN = "SELECT * FROM muster_begin_advance(%s, %s)"
_SKIP = "SELECT muster_skip_steps(%s, %s, %s, %s)"
_STOP = "SELECT muster_stop_steps(%s, %s, %s) AS running"
_TOP_UP = "SELECT * FROM muster_top_up(%s, %s, %s)"
_QUEUE = "SELECT * FROM muster_queue_level(%s, %s, %s, %s)"
_OUTCOMES = "SELECT step, status, status_reason FROM agent_run WHERE run_id = %s"
_OUTPUTS = "SELECT step, output FROM agent_run WHERE run_id = %s AND step = ANY(%s)"
_INPUT = "SELECT input FROM run WHERE id = %s"
_FINISH = "SELECT muster_finish_run(%s, %s, %s, %s, %s)"


@dataclass(frozen=True, slots=True)
class _Hints:
    """What to tell the workers once the transaction has committed."""

    agents: Sequence[AgentHint] = ()
    windowed: bool = False


def advance(tenant_id: UUID, run_id: UUID) -> None:
    """Hand out what is due, from the rows alone. Twice, early or never is harmless."""
    with engine_db.transaction() as connection:
        begun = rows(connection, _BEGIN, [tenant_id, run_id])
        if not begun:
            return
        hints = _Advance(connection, tenant_id, run_id).step(begun[0])
    if hints.agents:
        publish = publish_agents if hints.windowed else publish_level
        publish(tenant_id, run_id, hints.agents)


@dataclass(frozen=True, slots=True)
class _Advance:
    """One pass over a locked run, inside its transaction."""

    connection: Connection[Row]
    tenant_id: UUID
    run_id: UUID

    def step(self, begun: Row) -> _Hints:
        plan = plan_of(self.tenant_id, begun["version_id"], connection=self.connection)
        decision = ready(plan, Progress.of(begun["unsettled"], begun["settled_badly"]))
        if decision.skip:
            self._call(_SKIP, list(decision.skip), list(decision.skip.values()))
        if decision.is_settled or (decision.stop_in_flight and self._stopped()):
            self._finish(plan)
            return _Hints()
        if decision.stop_in_flight:
            return _Hints()
        window = min(plan.max_parallel or MAX_WINDOW, MAX_WINDOW)
        if decision.level is None:
            return _Hints(_hints(self._call(_TOP_UP, window)), windowed=True)
        queued = self._call(_QUEUE, decision.level, window)
        return _Hints(_hints(queued), windowed=any(row["windowed"] for row in queued))

    def _stopped(self) -> bool:
        """Call back what no worker has begun; true if nothing is at work any more."""
        running = self._call(_STOP, "another step failed, and the workflow fails fast")
        return not running[0]["running"]

    def _finish(self, plan: Plan) -> None:
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
        ended = verdict(outcomes, plan.failure)
        output = self._output(plan)
        reason = f"{ended.reason}. {output.problem}" if output.problem else ended.reason
        self._call(_FINISH, ended.status, reason, Json(output.value))

    def _output(self, plan: Plan) -> Output:
        given = rows(self.connection, _OUTPUTS, [self.run_id, list(plan.output_reads)])
        run = rows(self.connection, _INPUT, [self.run_id])[0]
        outputs = {row["step"]: row["output"] for row in given}
        return assemble(plan, input=run["input"], outputs=outputs)

    def _call(self, query: str, *arguments: Any) -> list[Row]:
        return rows(self.connection, query, [self.tenant_id, self.run_id, *arguments])


def _hints(queued: list[Row]) -> list[AgentHint]:
    return [AgentHint(row["agent_run_id"], row["priority"]) for row in queued]
