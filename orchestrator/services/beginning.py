"""Has steps begin that no worker takes: delays, approvals, maps, loops and sub-workflows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from psycopg.types.json import Json
from pydantic import JsonValue

from orchestrator.core.degrade import shortened
from orchestrator.core.errors import MapError, TemplateError
from orchestrator.core.mapping import items_of, most_at_once
from orchestrator.core.places import Scope
from orchestrator.core.plan import PlannedStep
from orchestrator.core.spec import MapSpec
from orchestrator.core.state import AgentRunStatus, WaitingReason
from orchestrator.execution import approvals
from orchestrator.execution.engine_db import rows
from orchestrator.services.run_pass import RunPass

_WAIT = "SELECT muster_start_wait(%s, %s, %s, %s, %s)"
_BEGIN_MAP = "SELECT * FROM muster_begin_map(%s, %s, %s, %s, %s, %s, %s)"
_ITEMS_OF = """
SELECT count(i.id) AS items FROM agent_run m JOIN agent_run i ON i.parent_id = m.id
 WHERE m.run_id = %s AND m.step = %s
"""
_BEGIN_LOOP = "SELECT muster_begin_loop(%s, %s, %s)"
_BEGIN_CALL = "SELECT * FROM muster_begin_call(%s, %s, %s)"


class Beginning(RunPass):
    def _begin(self, scope: Scope, step: PlannedStep) -> bool:
        """Let what no worker takes begin; false if there is more to do about it at once."""
        place = scope.place(step.name)
        if step.map is None:
            return self._begin_at(place, scope, step, {})
        try:
            return self._begin_map(place, scope, step, step.map)
        except (MapError, TemplateError) as error:
            self._settle(AgentRunStatus.FAILED, {place: str(error)}, code=error.code)
            return False

    def _begin_map(self, place: str, scope: Scope, step: PlannedStep, spec: MapSpec) -> bool:
        items = items_of(spec, self._context(scope, step.map_reads, step.previous_reads))
        parallel = most_at_once(step, window=scope.plan.window)
        kept, reason = self._cut_down(place, step, items)
        left_out = len(items) - len(kept)
        self.hints += self._call(_BEGIN_MAP, place, Json(kept), parallel, reason, left_out)
        return bool(items) and step.kind == "agent"

    def _cut_down(
        self, place: str, step: PlannedStep, items: list[JsonValue]
    ) -> tuple[list[JsonValue], str]:
        """The items that the ladder leaves to a map, and why it does not leave all."""
        rung = self.standing.rung("map_items") if step.optional else None
        if rung is None or rung.kept(len(items)) == len(items) or self._has_items(place):
            return items, ""
        kept = items[: rung.kept(len(items))]
        reason = shortened(rung, self.standing.use, items=len(items))
        self._tell(rung, reason, step=place, items=len(kept), left_out=len(items) - len(kept))
        return kept, reason

    def _has_items(self, place: str) -> bool:
        """Whether it was begun before: taken up again, it goes on with the items it had."""
        return bool(rows(self.connection, _ITEMS_OF, [self.run_id, place])[0]["items"])

    def _begin_at(
        self, place: str, scope: Scope, step: PlannedStep, item: Mapping[str, Any]
    ) -> bool:
        """The same for a step, or one item of its map, of which `item` tells."""
        if step.approval is not None:
            return self._ask(place, scope, step, item)
        if step.loop is not None:
            self._call(_BEGIN_LOOP, place)
            return False
        if step.call is not None:
            self.hints += self._call(_BEGIN_CALL, place)
            return True
        self._call(_WAIT, place, WaitingReason.DELAY, float(step.delay_seconds))
        return True

    def _ask(self, place: str, scope: Scope, step: PlannedStep, item: Mapping[str, Any]) -> bool:
        context = {**self._context(scope, step.reads, step.previous_reads), **item}
        asked = replace(step, name=place)
        try:
            approvals.ask(self.connection, self.tenant_id, self.run_id, step=asked, context=context)
        except TemplateError as error:
            self._settle(AgentRunStatus.FAILED, {place: str(error)}, code=error.code)
            return False
        return True
