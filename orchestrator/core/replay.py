"""Running an ended run again from one of its steps: what it may keep, and what it changes.

An output is kept only if the new run would make it from the same things.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from orchestrator.core.conditions import compile_condition
from orchestrator.core.config import overlaid
from orchestrator.core.errors import MissingVariableError
from orchestrator.core.jsonvalue import Json
from orchestrator.core.plan import Plan, PlannedStep, templates_of, with_config
from orchestrator.core.state import AgentRunStatus
from orchestrator.core.template import Path, look_up, references
from orchestrator.core.values import Duration, JsonObject

OVERRIDABLE: Final = ("prompt", "provider", "model", "parameters", "timeout")
# Steps of other kinds read in ways of their own; a new input makes them anew.
_READ_BY_TEMPLATES: Final = frozenset({"agent", "approval", "delay", "workflow"})
_S = AgentRunStatus


def kept_steps(
    plan: Plan, statuses: Mapping[str, str], *, from_step: str, touched: frozenset[str]
) -> frozenset[str]:
    """The steps whose outputs a replay from `from_step` takes over.

    Those that completed, and neither lie downstream of `from_step` nor were made from anything
    that may come out otherwise now: a `touched` step, or one that had not completed. A step that
    its condition skipped is skipped again, as it is asked of the same outputs.
    """
    downstream, fresh = {from_step}, {from_step}
    for step in (step for level in plan.levels for step in level):
        if not downstream.isdisjoint(step.needs):
            downstream.add(step.name)
        is_new = step.name in downstream or step.name in touched
        if is_new or _may_differ(step, statuses, fresh):
            fresh.add(step.name)
    return frozenset(
        name for name, status in statuses.items() if status == _S.COMPLETED and name not in fresh
    )


def _may_differ(step: PlannedStep, statuses: Mapping[str, str], fresh: set[str]) -> bool:
    # Skipped, an approval was refused by a person, who may think otherwise now.
    settled = {_S.COMPLETED} if step.kind == "approval" else {_S.COMPLETED, _S.SKIPPED}
    if statuses.get(step.name) not in settled:
        return True
    # One that waits for any of its needs was made from those that had completed alone.
    return any(
        need in fresh and (step.join == "all" or statuses.get(need) == _S.COMPLETED)
        for need in step.needs
    )


def steps_touched(plan: Plan, *, before: Json, after: Json) -> frozenset[str]:
    """The steps that read a part of the run's input that differs between `before` and `after`."""
    if _same(before, after):
        return frozenset()
    return frozenset(step.name for step in plan.steps if _is_touched(step, before, after))


def _is_touched(step: PlannedStep, before: Json, after: Json) -> bool:
    if step.kind not in _READ_BY_TEMPLATES or step.choice is not None:
        return True
    if step.when and "input" in compile_condition(step.when).roots:
        return True
    paths = (Path(tuple(path.split("."))) for path in references(templates_of(step)))
    return any(
        not _same(_at(path, before), _at(path, after)) for path in paths if path.parts[0] == "input"
    )


def _at(path: Path, given: Json) -> list[Json]:
    """What stands there, in a list; an empty one for nothing."""
    try:
        return [look_up(path, {"input": given})]
    except MissingVariableError:
        return []


def _same(one: Json, other: Json) -> bool:
    # As text: to Python 1, 1.0 and true are equal, and a prompt shows the order of keys.
    return json.dumps(one) == json.dumps(other)


def overridden(step: PlannedStep, changes: Mapping[str, Json]) -> PlannedStep:
    """The step as a replay's overrides set it."""
    config = {name: value for name, value in changes.items() if name != "timeout"}
    merged: JsonObject = overlaid(step.config, config)
    timeout = changes.get("timeout")
    seconds = Duration(timeout).seconds if isinstance(timeout, str) else step.timeout_seconds
    changed = replace(with_config(step, merged), timeout_seconds=seconds)
    if step.choice is None:
        return changed
    # What the agent that is chosen later reads stays within reach.
    reads = tuple(dict.fromkeys([*step.reads, *changed.reads]))
    return replace(changed, reads=reads, reads_input=True)
