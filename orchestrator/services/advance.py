"""Moves a run on: the one place that decides what may start and when a run has ended."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import structlog
from django.db import OperationalError as DjangoOperationalError
from psycopg import OperationalError
from psycopg.types.json import Json
from psycopg_pool import PoolTimeout

from orchestrator.core.completion import Outcome, Verdict, verdict
from orchestrator.core.hints import hints_of
from orchestrator.core.places import Scope
from orchestrator.core.plan import Plan
from orchestrator.core.scheduling import Decision, Progress, ready
from orchestrator.core.state import AgentRunStatus, RunStatus
from orchestrator.dispatch.canvas import publish
from orchestrator.dispatch.live import nudge
from orchestrator.execution import engine_db, ladder
from orchestrator.execution.crashpoints import crash_here
from orchestrator.execution.engine_db import Row, rows
from orchestrator.execution.errors import PlanUnreadableError
from orchestrator.execution.versions import plan_of
from orchestrator.limits import limits
from orchestrator.services.children import start_children
from orchestrator.services.gathering import Gathering

log = structlog.get_logger(__name__)

# For so long a pass is tried again while the database is away, or another holds what it needs.
PATIENCE_SECONDS = 5.0

_BEGIN = "SELECT * FROM muster_begin_advance(%s, %s)"
_STOP = "SELECT muster_stop_steps(%s, %s, %s, %s) AS running"
_TOP_UP = "SELECT * FROM muster_top_up(%s, %s, '{}')"
_QUEUE_LEVEL = "SELECT * FROM muster_queue_level(%s, %s, %s, %s, %s)"
_QUEUE_STEPS = "SELECT * FROM muster_queue_steps(%s, %s, %s)"
_IN_LINE = """
SELECT id FROM agent_run
 WHERE run_id = %s AND status = 'waiting' AND waiting_for = 'rate_limited'
"""
_STOP_CALLS = "SELECT * FROM muster_stop_calls(%s, %s, %s)"
_TELL_PARENT = "SELECT * FROM muster_tell_parent(%s, %s)"
_NEXT_TURNS = "SELECT * FROM muster_next_turns(%s)"
_OUTCOMES = """
SELECT step, status, status_reason FROM agent_run WHERE run_id = %s AND parent_id IS NULL
"""
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
    """To the runs below and above, and to those that wait for its place, or in line with it."""
    if pass_.waiters:
        limits().leave(pass_.waiters)
    if pass_.has_calls:
        start_children(pass_.tenant_id, pass_.run_id)
    if pass_.has_ended:
        told = engine_db.many(_TELL_PARENT, pass_.tenant_id, pass_.run_id)
        told += engine_db.many(_NEXT_TURNS, pass_.tenant_id)
        publish(hints_of(pass_.tenant_id, told))


def _worked(tenant_id: UUID, run_id: UUID) -> _Advance:
    with engine_db.transaction() as connection:
        pass_ = _Advance(connection, tenant_id, run_id)
        pass_.work()
        crash_here("in_advance")
    return pass_


@dataclass(slots=True)
class _Advance(Gathering):
    """Decides what may start, and whether the run has ended."""

    has_calls: bool = False  # there may be sub-workflows to be started
    has_ended: bool = False
    waiters: list[str] = field(default_factory=list)  # that no limit need expect any more

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
            return self._go_on(plan, begun)
        except PlanUnreadableError as error:
            self._call(_STOP, AgentRunStatus.CANCELLED, str(error))
            self._end_run(RunStatus.FAILED, str(error))
            return False

    def _go_on(self, plan: Plan, begun: Row) -> bool:
        self.has_calls = plan.has_calls
        if plan.gathers and self._end_calls():
            return True
        self._stand_on(plan)
        known = (begun["statuses"], begun["unsettled"], self.judged, self.standing.skips)
        decision = ready(plan, Progress.of(*known))
        # What is to stop goes no further.
        if not decision.stop and plan.gathers:
            # Both, whatever comes of the first.
            changed = [self._drive_maps(plan), self._drive_loops(plan)]
            if any(changed):
                return True
        return self._act(plan, decision)

    def _act(self, plan: Plan, decision: Decision) -> bool:
        scope = Scope(plan)
        if decision.judge:
            self._judge(scope, decision.judge)
            return True
        if decision.stop:
            if not self._call_back(AgentRunStatus.SKIPPED, decision.stop):
                self._finish(plan)
            return False
        self._skip(decision.skip)
        self._settle(AgentRunStatus.FAILED, decision.fail)
        if decision.fail:
            return True
        if decision.is_settled:
            self._finish(plan)
            return False
        if decision.begins and self._asks():
            return False
        # All of them, whatever comes of the first.
        goes_on = [self._begin(scope, plan.step(name)) for name in decision.wait]
        if not all(goes_on):
            return True
        self._dispatch(plan, decision)
        return False

    def _stand_on(self, plan: Plan) -> None:
        """Find out how far down its ladder the run is, if it has one that concerns steps."""
        if any(rule.use is None for rule in plan.degrade):
            self.standing = ladder.standing(plan.degrade, self._call(ladder.CAP_USE))

    def _asks(self) -> bool:
        """Whether the run is paused now, since more would begin and its ladder asks a person."""
        rung = self.standing.rung("ask")
        if rung is None or rung.number in self.standing.told:
            return False
        return bool(self._call(ladder.ASK, *ladder.question(self.standing, rung))[0]["asks"])

    def _dispatch(self, plan: Plan, decision: Decision) -> None:
        if not decision.dispatch:
            self.hints += self._call(_TOP_UP)
        elif decision.level is None:
            self.hints += self._call(_QUEUE_STEPS, list(decision.dispatch))
        else:
            is_fixed = plan.fixed_window is not None
            self.hints += self._call(_QUEUE_LEVEL, decision.level, plan.window, is_fixed)

    def _stop(self, begun: Row) -> bool:
        if not self._call_back(AgentRunStatus.CANCELLED, begun["stop_reason"]):
            has_output = begun["stop_wanted"] == RunStatus.BUDGET_EXCEEDED
            output = self._what_it_has(begun) if has_output else None
            self._end_run(begun["stop_wanted"], begun["stop_reason"], output)
        return False

    def _what_it_has(self, begun: Row) -> Any:
        try:
            plan = plan_of(self.tenant_id, begun["version_id"], connection=self.connection)
        except PlanUnreadableError:
            return None
        return self._output(Scope(plan)).value

    def _call_back(self, pending: AgentRunStatus, reason: str) -> int:
        """Call back what no worker has begun; the number of those that are still at work."""
        self.hints += self._call(_STOP_CALLS, reason)
        self.waiters += [str(row["id"]) for row in rows(self.connection, _IN_LINE, [self.run_id])]
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
