"""The plans of published versions, kept in memory: a version never changes."""

import threading
from uuid import UUID

from cachetools import LRUCache
from psycopg import Connection
from pydantic import ValidationError

from orchestrator.core.plan import Plan, plan_from_json
from orchestrator.execution import engine_db
from orchestrator.execution.errors import PlanUnreadableError
from orchestrator.execution.loading import SingleFlight

_PLAN = "SELECT plan FROM muster_version_plan(%s, %s)"

# Bounded by steps, not by plans: one of 10,000 steps takes some twenty megabytes.
_plans: LRUCache[tuple[UUID, UUID], Plan] = LRUCache(
    maxsize=30_000, getsizeof=lambda plan: len(plan.steps) + 10
)
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
        # A plan larger than the whole cache is simply not kept.
        if len(plan.steps) < _plans.maxsize // 2:
            _plans[key] = plan
    return plan


# All threads of a worker want a run's plan when it begins, and reading a large one takes seconds.
_load: SingleFlight[tuple[UUID, UUID], Plan] = SingleFlight(
    lambda key: _kept(key, engine_db.many(_PLAN, *key))
)
