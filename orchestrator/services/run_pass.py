"""One pass over a locked run, inside its transaction: what all of its parts do with the rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from psycopg import Connection

from orchestrator.core.conditions import compile_condition
from orchestrator.core.degrade import Rung, Standing
from orchestrator.core.errors import ConditionError
from orchestrator.core.jsonvalue import Json
from orchestrator.core.output import Output, assemble
from orchestrator.core.places import Scope
from orchestrator.core.plan import Plan
from orchestrator.core.state import AgentRunStatus
from orchestrator.execution import ladder
from orchestrator.execution.engine_db import Row, rows
from orchestrator.execution.finishes import Finish, finish_within
from orchestrator.execution.versions import Addition, addition_of

_SETTLE = "SELECT * FROM muster_settle_steps(%s, %s, %s, %s, %s, %s)"
# Who has added steps is at work until these have ended, and they read what it gave.
_OUTPUTS = """
SELECT step, CASE status WHEN 'running' THEN added -> 'output' ELSE output END AS output
  FROM agent_run WHERE run_id = %s AND step = ANY(%s)
"""
_WHO_ADDED = "SELECT id FROM agent_run WHERE run_id = %s AND step = %s"
_ITEM = "SELECT item FROM agent_run WHERE run_id = %s AND step = %s"
_INPUT = "SELECT input FROM run WHERE id = %s"


@dataclass(slots=True)
class RunPass:
    """Reads the run's rows, writes decisions into them, and gathers what is to be published."""

    connection: Connection[Row]
    tenant_id: UUID
    run_id: UUID
    judged: dict[str, bool | str] = field(default_factory=dict)  # conditions, by place
    hints: list[Row] = field(default_factory=list)
    is_stopping: bool = False
    standing: Standing = field(default_factory=Standing)
    added: dict[str, Addition] = field(default_factory=dict)  # steps that were added, by who did

    def _scope(self, plan: Plan, place: str) -> Scope:
        """The scope that the agent run at a place stands in."""
        return Scope.of(plan, place, self._added_at)

    def _added_at(self, place: str) -> Plan:
        return self._addition_at(place).plan

    def _addition_at(self, place: str) -> Addition:
        if place not in self.added:
            found = rows(self.connection, _WHO_ADDED, [self.run_id, place])
            addition = addition_of(self.tenant_id, found[0]["id"], connection=self.connection)
            self.added[place] = addition
        return self.added[place]

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

    def _skip(self, reasons: Mapping[str, str]) -> None:
        """Skip steps, some of them perhaps as the ladder has it."""
        rung = self.standing.rung("skip")
        if rung and self.standing.skips in reasons.values():
            self._tell(rung, self.standing.skips)
        self._settle(AgentRunStatus.SKIPPED, reasons)

    def _tell(self, rung: Rung, reason: str, **more: Json) -> None:
        """Have the run's history tell, once, that a rule of the ladder has taken effect."""
        if rung.number not in self.standing.told:
            self._call(ladder.TELL, *ladder.told(self.standing, rung, reason, **more))

    def _judge(self, scope: Scope, names: Sequence[str]) -> None:
        """Evaluate the conditions of steps, once: this transaction acts on what they give."""
        steps = [scope.plan.step(name) for name in names]
        read = {need for step in steps for need in step.when_reads}
        context = self._context(scope, read, read)
        for step in steps:
            self.judged[scope.place(step.name)] = holds(step.when or "", context)

    def _context(
        self, scope: Scope, read: Iterable[str], previous: Iterable[str] = ()
    ) -> dict[str, Any]:
        """The run's input and the outputs of some steps, as templates and conditions see them."""
        outputs = self._outputs(scope, read, previous)
        return {"input": self._input(), **self._around(scope), **scope.around.variables(outputs)}

    def _around(self, scope: Scope) -> dict[str, Any]:
        """The item that the loop of a map is at."""
        if scope.around.item is None:
            return {}
        place, index = scope.around.item
        return {
            "item": rows(self.connection, _ITEM, [self.run_id, place])[0]["item"],
            "index": index,
        }

    def _outputs(
        self, scope: Scope, read: Iterable[str], previous: Iterable[str] = ()
    ) -> dict[str, Any]:
        """Outputs by the place that they come from."""
        places = scope.places(read, previous)
        found = rows(self.connection, _OUTPUTS, [self.run_id, places])
        return {row["step"]: row["output"] for row in found}

    def _output(self, scope: Scope) -> Output:
        read = scope.plan.output_reads
        outputs = self._outputs(scope, read, read)
        seen: dict[str, Any] = scope.around.variables(outputs)
        return assemble(
            scope.plan,
            input=self._input(),
            outputs={name: each["output"] for name, each in seen["steps"].items()},
            around={**self._around(scope), **seen},
        )

    def _input(self) -> Any:
        return rows(self.connection, _INPUT, [self.run_id])[0]["input"]

    def _end(self, row: Row, **outcome: Any) -> None:
        """End an agent run that stands for others. This pass goes on with what follows from it."""
        ended = Finish(
            tenant_id=self.tenant_id,
            agent_run_id=row["agent_run_id"],
            attempt=row["attempt"],
            **outcome,
        )
        hints = finish_within(self.connection, ended)
        self.hints += [hint for hint in hints if hint["what"] != "advance"]

    def _call(self, query: str, *arguments: Any) -> list[Row]:
        return rows(self.connection, query, [self.tenant_id, self.run_id, *arguments])


def failed(code: str, reason: str) -> dict[str, Any]:
    told = {"code": code, "message": reason}
    return {"status": AgentRunStatus.FAILED, "reason": reason, "error": told}


def holds(condition: str, context: Mapping[str, Any]) -> bool | str:
    """What the condition gives, or the sentence why it gives nothing."""
    try:
        return compile_condition(condition).evaluate(context)
    except ConditionError as error:
        return str(error)
