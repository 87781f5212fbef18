"""Running an ended run again from one of its steps, as a new run that reuses what it can."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

from django.db import connection, transaction

from orchestrator.core.overrides import override_problems
from orchestrator.core.places import root_of
from orchestrator.core.plan import Plan, PlannedStep, plan_from_json
from orchestrator.core.problems import Problem, did_you_mean
from orchestrator.core.replay import kept_steps, overridden, steps_touched
from orchestrator.core.state import TERMINAL_RUN
from orchestrator.core.values import JsonObject
from orchestrator.execution.providers import with_own_models
from orchestrator.models import AgentRun, Run, RunEvent
from orchestrator.services.control import RunStateError, state_of
from orchestrator.services.errors import InputInvalidError
from orchestrator.services.readiness import problems_of
from orchestrator.services.runs import (
    checked_input,
    create_runs,
    new_run,
    refuse_suspended,
)
from orchestrator.services.workflows import tenant_catalog
from tenants.scope import current_tenant_id
from tenants.selectors.credentials import serving_credentials

UNCHANGED: Final = object()

# The whole of a map or loop stands for its parts, whose cost it saves. No join: of a run that was
# only just made the planner knows too little.
_REUSE = """
INSERT INTO agent_run (id, tenant_id, run_id, step, position, level, status, kind, priority, agent,
                       uses_model, provider, model, role, reads, reads_input, timeout_seconds,
                       next_steps, gates, tells, prompt, output, reused_from, saved_nano,
                       finished_at)
SELECT uuidv7(), o.tenant_id, %(new)s, o.step, o.position, o.level, 'completed', o.kind, o.priority,
       o.agent, o.uses_model, o.provider, o.model, o.role, o.reads, o.reads_input,
       o.timeout_seconds, o.next_steps, o.gates, o.tells, o.prompt, o.output, o.id, o.nano,
       clock_timestamp()
  FROM (SELECT x.*, sum(x.cost_nano + x.saved_nano)
                    OVER (PARTITION BY substring(x.step FROM '^[^.[]+')) AS nano
          FROM agent_run x WHERE x.run_id = %(old)s) o
 WHERE o.step = ANY (%(kept)s)
"""
_OVERRIDE = """
UPDATE agent_run a
   SET reads = o.reads, reads_input = o.reads_input, provider = COALESCE(o.provider, ''),
       model = COALESCE(o.model, ''), timeout_seconds = o.timeout_seconds
  FROM json_to_recordset(%s::json) AS o (name text, reads text[], reads_input boolean,
                                         provider text, model text, timeout_seconds int)
 WHERE a.run_id = %s AND a.step = o.name
"""
# What completed has been counted.
_LOWER_GATES = """
UPDATE gate g SET "left" = g."left" - n.times
  FROM (SELECT x.number, count(*) AS times FROM agent_run a CROSS JOIN unnest(a.gates) AS x (number)
         WHERE a.run_id = %(new)s AND a.status = 'completed' GROUP BY x.number) n
 WHERE g.run_id = %(new)s AND g.number = n.number
"""
_SAVED = """
UPDATE run
   SET saved_nano = (SELECT COALESCE(sum(saved_nano), 0) FROM agent_run WHERE run_id = %(new)s)
 WHERE id = %(new)s RETURNING saved_nano
"""
_TELL = """
INSERT INTO run_event (tenant_id, run_id, agent_run_id, at, type, data)
SELECT tenant_id, run_id, id, clock_timestamp(), 'agent.reused',
       jsonb_build_object('step', step, 'reused_from', reused_from, 'saved_nano', saved_nano)
  FROM agent_run WHERE run_id = %(new)s AND reused_from IS NOT NULL ORDER BY position
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayPlan:
    """What a replay takes over (`kept`, which saves so much), and what it runs, in order."""

    kept: tuple[str, ...]
    again: tuple[str, ...]
    saved_nano: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Replay:
    """A replay that was found valid."""

    plan: Plan
    kept: frozenset[str]
    input: Any
    overrides: dict[str, JsonObject]

    @property
    def changed(self) -> list[PlannedStep]:
        return [overridden(self.plan.step(name), set_) for name, set_ in self.overrides.items()]


def replay_run(
    run: Run, *, from_step: str, input: Any = UNCHANGED, overrides: Mapping[str, Any] | None = None
) -> Run:
    """A new run of the same version that runs `from_step` and what follows from it anew.

    It reuses the other outputs, as far as they would be made from the same things again: what had
    not completed runs again, and so does what read a part of the input that `input` changes, and
    what follows from either. `overrides` sets prompt, provider, model, parameters or timeout of
    steps that run again. Raises RunStateError, TenantSuspendedError, or InputInvalidError with
    every problem.
    """
    refuse_suspended()
    with transaction.atomic():
        # Nobody takes the old run up again meanwhile.
        locked = Run.objects.select_for_update(no_key=True, of=("self",))
        old = locked.select_related("workflow", "version").get(id=run.id)
        if old.status not in TERMINAL_RUN:
            raise RunStateError("replay", state_of(old))
        return _start(old, _checked(old, from_step, input, overrides or {}), from_step)


def plan_replay(run: Run, *, from_step: str) -> ReplayPlan:
    """What a replay of an ended run from `from_step` would do, with its input as it was."""
    plan = plan_from_json(run.version.plan)
    kept = kept_steps(plan, _statuses(run), from_step=from_step, touched=frozenset())
    names = [step.name for step in plan.steps]
    costs = AgentRun.objects.filter(run=run).values_list("step", "cost_nano", "saved_nano")
    return ReplayPlan(
        kept=tuple(name for name in names if name in kept),
        again=tuple(name for name in names if name not in kept),
        saved_nano=sum(cost + saved for place, cost, saved in costs if root_of(place) in kept),
    )


def _statuses(run: Run) -> dict[str, str]:
    """How the steps ended; the items of maps and the rounds of loops are parts of theirs."""
    return dict(AgentRun.objects.filter(run=run, parent_id=None).values_list("step", "status"))


def _checked(old: Run, from_step: str, input: Any, overrides: Mapping[str, Any]) -> _Replay:
    plan = plan_from_json(old.version.plan)
    given, problems = old.input, list[Problem]()
    if from_step not in plan.names:
        hint = did_you_mean(from_step, plan.names)
        problems.append(Problem("/from_step", "unknown_step", f"There is no such step{hint}"))
    if input is not UNCHANGED:
        try:
            given = checked_input(old.version, input)
        except InputInvalidError as error:
            problems += error.problems
    kept = frozenset[str]()
    if not problems:
        touched = steps_touched(plan, before=old.input, after=given)
        kept = kept_steps(plan, _statuses(old), from_step=from_step, touched=touched)
    if overrides:
        problems += override_problems(
            overrides, plan=plan, spec=old.version.spec, kept=kept, catalog=tenant_catalog()
        )
    if problems:
        raise InputInvalidError(problems)
    resolved = {name: _resolved(plan.step(name), set_) for name, set_ in overrides.items() if set_}
    problems = problems_of(_needs(plan, kept, resolved), at="/from_step")
    if problems:
        raise InputInvalidError(problems)
    return _Replay(plan=plan, kept=kept, input=given, overrides=resolved)


def _needs(plan: Plan, kept: frozenset[str], overrides: Mapping[str, JsonObject]) -> dict[str, str]:
    """By provider, a step that runs again and needs it, those of loops too."""
    needs: dict[str, str] = {}
    for step in plan.steps:
        if step.name in kept:
            continue
        if step.loop:
            needs |= _needs(step.loop.body, frozenset(), {})
        provider = overrides.get(step.name, {}).get("provider") or step.provider
        if step.uses_model and provider:
            needs[str(provider)] = step.name
    return needs


def _resolved(step: PlannedStep, changes: Mapping[str, Any]) -> JsonObject:
    """The overrides of a step with the model that another provider brings."""
    given = {name: value for name, value in changes.items() if value is not None}
    if "provider" in given and "model" not in given:
        asked = replace(overridden(step, given), choice=None)
        given["model"] = with_own_models(serving_credentials())(asked).model
    return given


def _start(old: Run, replay: _Replay, from_step: str) -> Run:
    seconds = old.deadline_seconds
    run = new_run(
        workflow=old.workflow,
        version=old.version,
        input=replay.input,
        priority=old.priority,
        metadata=old.metadata,
        deadline=None if seconds is None else timedelta(seconds=seconds),
        max_cost_nano=old.max_cost_nano,
    )
    run.replay_of, run.replay_from, run.overrides = old, from_step, replay.overrides or None
    kept = list(replay.kept)
    create_runs([run], without=kept)
    facts: dict[str, Any] = {"new": run.id, "old": old.id, "kept": kept}
    with connection.cursor() as cursor:
        cursor.execute(_REUSE, facts)
        if replay.overrides:
            cursor.execute(_OVERRIDE, [json.dumps(_columns(replay)), run.id])
        cursor.execute(_LOWER_GATES, facts)
        cursor.execute(_SAVED, facts)
        (run.saved_nano,) = cursor.fetchone()
        _tell(run, reused=len(kept))
        cursor.execute(_TELL, facts)
    return run


def _columns(replay: _Replay) -> list[dict[str, Any]]:
    names = ("name", "reads", "reads_input", "provider", "model", "timeout_seconds")
    return [{name: getattr(step, name) for name in names} for step in replay.changed]


def _tell(run: Run, *, reused: int) -> None:
    RunEvent.objects.create(
        tenant_id=current_tenant_id(),
        run=run,
        type="run.replayed",
        data={
            "replay_of": str(run.replay_of_id),
            "from_step": run.replay_from,
            "reused": reused,
            "saved_nano": run.saved_nano,
        },
    )
