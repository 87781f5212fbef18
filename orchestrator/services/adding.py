"""Runs the steps that agents have added to their run, below the agent run that stands for them."""

from __future__ import annotations

from collections.abc import Mapping

from django.conf import settings
from psycopg.types.json import Json as AsJson

from orchestrator.core import delegated
from orchestrator.core.completion import Outcome, verdict
from orchestrator.core.errors import TemplateError, TooManyAddedStepsError
from orchestrator.core.jsonvalue import Json
from orchestrator.core.places import Scope
from orchestrator.core.scheduling import ready
from orchestrator.core.state import TERMINAL_AGENT_RUN, AgentRunStatus, RunStatus
from orchestrator.execution.engine_db import Row
from orchestrator.execution.versions import Awaited
from orchestrator.services.parts import Parts
from orchestrator.services.run_pass import failed

_COUNT = "SELECT muster_count_added(%s, %s, %s, %s) AS has_room"
_TAKE_UP = "SELECT * FROM muster_take_up(%s, %s, %s, %s, %s)"
_GOOD = frozenset({RunStatus.COMPLETED, RunStatus.PARTIALLY_COMPLETED})


class Adding(Parts):
    def _drive_added(self, outer: Scope, row: Row, due: list[str]) -> bool:
        """Take what an agent run has added a step further; true if more follows at once."""
        scope = outer.with_added(row["step"], self._added_at(row["step"]))
        if row["round"] is None:
            return self._begin_added(row, scope)
        progress = self._progress(scope, row)
        decision = ready(scope.plan, progress)
        if decision.stop:
            return self._call_back_added(row, scope, progress.statuses, decision.stop)
        if decision.is_settled and not decision.skip:
            return self._end_added(row, scope)
        return self._act_in(scope, decision, due)

    def _begin_added(self, row: Row, scope: Scope) -> bool:
        most = settings.MUSTER_MAX_ADDED_STEPS
        if self._call(_COUNT, len(scope.plan.steps), most)[0]["has_room"]:
            return self._add_round(row, scope)
        error = TooManyAddedStepsError(most)
        awaited = self._addition_at(row["step"]).awaited
        if awaited:
            refused: dict[str, Json] = {"error": str(error)}
            return self._take_up(row, awaited, dict.fromkeys(awaited.calls, refused))
        self._end(row, **failed(error.code, str(error)))
        return True

    def _call_back_added(
        self, row: Row, scope: Scope, statuses: Mapping[str, AgentRunStatus], why: str
    ) -> bool:
        """What has begun goes on to its end."""
        begun = {name for name, status in statuses.items() if status is not AgentRunStatus.READY}
        left = [step.name for step in scope.plan.steps if step.name not in begun]
        self._settle(AgentRunStatus.SKIPPED, scope.placed(dict.fromkeys(left, why)))
        if left:
            return True
        is_over = all(status in TERMINAL_AGENT_RUN for status in statuses.values())
        return is_over and self._end_added(row, scope)

    def _end_added(self, row: Row, scope: Scope) -> bool:
        awaited = self._addition_at(row["step"]).awaited
        if awaited:
            return self._take_up(row, awaited, self._results(row, scope, awaited))
        outcomes = [
            Outcome(
                name=scope.name(step["step"]),
                status=AgentRunStatus(step["status"]),
                priority=scope.step_at(step["step"]).priority,
                reason=step["status_reason"],
            )
            for step in self._endings(row)
        ]
        judged = verdict(outcomes, scope.plan.failure)
        output = self._output(scope)
        if judged.status not in _GOOD:
            self._end(row, **failed("added_steps_failed", judged.reason))
        elif output.problem:
            self._end(row, **failed(TemplateError.code, output.problem))
        else:
            reason = judged.reason if judged.status is RunStatus.PARTIALLY_COMPLETED else ""
            self._end(row, status=AgentRunStatus.COMPLETED, output=output.value, reason=reason)
        return True

    def _results(self, row: Row, scope: Scope, awaited: Awaited) -> dict[str, dict[str, Json]]:
        """The answer to each of the calls that the steps were delegated by."""
        names = scope.plan.names
        outputs = scope.named(self._outputs(scope, names))
        ends = {scope.name(step["step"]): step for step in self._endings(row)}
        known = {
            name: (ends[name]["status"], ends[name]["status_reason"], outputs[name])
            for name in names
        }
        all_of_them: Json = {name: delegated.report(*end) for name, end in known.items()}
        return {
            call: delegated.answer(*known[name]) if name else {"output": all_of_them}
            for call, name in awaited.calls.items()
        }

    def _take_up(self, row: Row, awaited: Awaited, answers: Mapping[str, dict[str, Json]]) -> bool:
        """Whoever has delegated the steps goes on with what came of them."""
        self._end(row, status=AgentRunStatus.COMPLETED)
        listed = [{"call": call, **answer} for call, answer in answers.items()]
        self.hints += self._call(_TAKE_UP, row["agent_run_id"], awaited.turn, AsJson(listed))
        return True
