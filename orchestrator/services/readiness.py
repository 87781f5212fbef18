"""Whether the providers that a run needs can be called, asked before it starts."""

import threading
from collections.abc import Mapping
from uuid import UUID

from cachetools import LRUCache
from django.db import connection

from orchestrator.core.problems import Problem
from orchestrator.execution.credentials import Own, credentials_of
from orchestrator.execution.providers import unusable
from tenants.models import Tenant
from tenants.scope import current_tenant_id
from tenants.selectors.credentials import providers_with_keys, serving_credentials

# Steps of loops included; those of other workflows are their versions'. A plan may have 10,000
# steps, so it is looked through where it lies.
_NEEDS = """
WITH RECURSIVE step (s) AS (
    SELECT json_array_elements(plan -> 'steps') FROM workflow_version WHERE id = %s
    UNION ALL
    SELECT json_array_elements(s -> 'loop' -> 'body' -> 'steps') FROM step
     WHERE json_typeof(s -> 'loop') = 'object'
)
SELECT CASE WHEN s ->> 'uses_model' = 'true' THEN s ->> 'provider' END AS provider,
       s -> 'call' ->> 'version_id' AS version, min(s ->> 'name') AS step
  FROM step GROUP BY 1, 2
"""

# A version never changes, and neither do those that it calls.
_known: LRUCache[UUID, tuple[dict[str, str], frozenset[UUID]]] = LRUCache(maxsize=5_000)
_guard = threading.Lock()


def provider_problems(version_id: UUID, *, at: str) -> list[Problem]:
    """What stands in the way of a run of this version, sub-workflows included."""
    return problems_of(_needs_in_all(version_id), at=at)


def problems_of(needs: Mapping[str, str], *, at: str) -> list[Problem]:
    """The providers among `needs` that the open tenant cannot call; each with a step's name."""
    if not needs:
        return []
    tenant = Tenant.objects.get(id=current_tenant_id())
    own: Own = credentials_of(tenant.id) if needs.keys() & set(providers_with_keys()) else {}
    faults = _faults(needs, own, tenant)
    if faults:
        # What is remembered may be some seconds old, and the credential just added.
        faults = _faults(needs, serving_credentials(), tenant)
    return [
        Problem(at, "provider_not_configured", f"Step `{needs[name]}` needs `{name}`: {fault}")
        for name, fault in faults.items()
    ]


def _faults(needs: Mapping[str, str], own: Own, tenant: Tenant) -> dict[str, str]:
    uses_environment = tenant.uses_environment_credentials
    found = {
        name: unusable(name, own=own, uses_environment=uses_environment) for name in sorted(needs)
    }
    return {name: fault for name, fault in found.items() if fault}


def _needs_in_all(version_id: UUID) -> dict[str, str]:
    """By provider, a step that needs it."""
    seen, ahead, needs = set[UUID](), [version_id], dict[str, str]()
    while ahead:
        current = ahead.pop()
        if current in seen:
            continue
        seen.add(current)
        own, called = _needs_of(current)
        needs |= {provider: step for provider, step in own.items() if provider not in needs}
        ahead += called
    return needs


def _needs_of(version_id: UUID) -> tuple[dict[str, str], frozenset[UUID]]:
    with _guard:
        known = _known.get(version_id)
    if known is not None:
        return known
    with connection.cursor() as cursor:
        cursor.execute(_NEEDS, [version_id])
        rows = cursor.fetchall()
    needs = {provider: step for provider, _, step in rows if provider}
    found = needs, frozenset(UUID(version) for _, version, _ in rows if version)
    with _guard:
        _known[version_id] = found
    return found
