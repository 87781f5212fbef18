"""The plans of published versions, and of what agents add: kept, since they never change."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from cachetools import LRUCache
from psycopg import Connection
from pydantic import ValidationError

from orchestrator.core.plan import Plan, PlannedStep, plan_from_json
from orchestrator.core.spec import DegradeRule
from orchestrator.execution import engine_db
from orchestrator.execution.errors import PlanUnreadableError
from tenants.loading import SingleFlight

_PLAN = "SELECT plan FROM muster_version_plan(%s, %s)"
_ADDED = "SELECT step, added FROM muster_added_steps(%s, %s)"

# Bounded by steps, not by plans: one of 10,000 steps takes some twenty megabytes.
_plans: LRUCache[tuple[UUID, UUID], Plan] = LRUCache(
    maxsize=30_000, getsizeof=lambda plan: len(plan.steps) + 10
)
# Of all of them, large ones too.
_ladders: LRUCache[tuple[UUID, UUID], tuple[DegradeRule, ...]] = LRUCache(maxsize=5_000)
_guard = threading.Lock()


def plan_of(
    tenant_id: UUID, version_id: UUID, *, connection: Connection[engine_db.Row] | None = None
) -> Plan:
    """The plan of a version; read through `connection` by who holds one already.

    Raises PlanUnreadableError.
    """
    key = (tenant_id, version_id)
    with _guard:
        known = _plans.get(key)
    if known is not None:
        return known
    # Who holds a connection, and with it locks, waits for nobody who may need one.
    return _kept(key, engine_db.rows(connection, _PLAN, key)) if connection else _load(key)


def _kept(key: tuple[UUID, UUID], found: list[engine_db.Row]) -> Plan:
    if not found:
        raise LookupError(f"version {key[1]} does not exist")
    try:
        plan = plan_from_json(found[0]["plan"])
    except ValidationError as error:
        raise PlanUnreadableError from error
    with _guard:
        _ladders[key] = plan.degrade
        # A plan larger than the whole cache is simply not kept.
        if len(plan.steps) < _plans.maxsize // 2:
            _plans[key] = plan
    return plan


# All threads of a worker want a run's plan when it begins, and reading a large one takes seconds.
_load: SingleFlight[tuple[UUID, UUID], Plan] = SingleFlight(
    lambda key: _kept(key, engine_db.many(_PLAN, *key))
)


def ladder_of(tenant_id: UUID, version_id: UUID) -> tuple[DegradeRule, ...]:
    """What runs of a version give up as they use up their cap. Raises PlanUnreadableError."""
    with _guard:
        known = _ladders.get((tenant_id, version_id))
    return plan_of(tenant_id, version_id).degrade if known is None else known


@dataclass(frozen=True, slots=True, kw_only=True)
class Awaited:
    """The calls of a turn, and the step that answers each; None for all steps together."""

    turn: int
    calls: Mapping[str, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """Steps that the agent run at a place stands for, `depth` of such additions below each other.

    `awaited` where another, above it, has delegated them.
    """

    place: str
    depth: int
    plan: Plan
    awaited: Awaited | None = None


_additions: LRUCache[UUID, Addition] = LRUCache(
    maxsize=5_000, getsizeof=lambda addition: len(addition.plan.steps) + 10
)


def addition_of(
    tenant_id: UUID, agent_run_id: UUID, *, connection: Connection[engine_db.Row] | None = None
) -> Addition:
    """What an agent run has added. Raises PlanUnreadableError."""
    with _guard:
        known = _additions.get(agent_run_id)
    if known is not None:
        return known
    key = (tenant_id, agent_run_id)
    found = engine_db.rows(connection, _ADDED, key) if connection else engine_db.many(_ADDED, *key)
    if not found:
        raise LookupError(f"agent run {agent_run_id} has added no steps")
    added = found[0]["added"]
    try:
        plan = plan_from_json(added["plan"])
    except ValidationError as error:
        raise PlanUnreadableError from error
    addition = Addition(
        place=found[0]["step"],
        depth=added["depth"],
        plan=plan,
        awaited=Awaited(**added["awaited"]) if "awaited" in added else None,
    )
    with _guard:
        if len(plan.steps) < _additions.maxsize // 2:
            _additions[agent_run_id] = addition
    return addition


def planned_step(
    tenant_id: UUID, version_id: UUID, place: str, added_by: UUID | None
) -> PlannedStep:
    """The step at a place of a run, which the version has or an agent run has added."""
    if added_by is None:
        return plan_of(tenant_id, version_id).step(place)
    addition = addition_of(tenant_id, added_by)
    return addition.plan.step(place.removeprefix(f"{addition.place}."))
