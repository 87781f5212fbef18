"""The plans of published versions, kept in memory: a version never changes."""

from functools import lru_cache
from uuid import UUID

from orchestrator.core.plan import Plan, plan_from_json
from orchestrator.execution import engine_db

_PLAN = "SELECT plan FROM muster_version_plan(%s, %s)"


# A plan of 10,000 steps takes some megabytes; most have a handful.
@lru_cache(maxsize=128)
def plan_of(tenant_id: UUID, version_id: UUID) -> Plan:
    row = engine_db.one(_PLAN, tenant_id, version_id)
    if row is None:
        raise LookupError(f"version {version_id} does not exist")
    return plan_from_json(row["plan"])
