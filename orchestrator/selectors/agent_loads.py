"""How much agents have to do, by their names."""

from collections.abc import Mapping
from typing import Final
from uuid import UUID

from django.db import connection

from tenants.fresh import Fresh
from tenants.scope import current_tenant_id

_NAMED_SECONDS: Final = 1.0
_CHOSEN: Final = """
SELECT c.agent, count(*) FROM agent_choice c
 WHERE NOT c.is_over
   AND (SELECT a.status IN ('queued', 'running') FROM agent_run a WHERE a.id = c.agent_run_id)
 GROUP BY c.agent
"""
_NAMED: Final = "SELECT agent, agent_runs FROM muster_agents_named(%s)"


def agents_chosen() -> Mapping[str, int]:
    """The same in the open tenant of those whose agents were chosen, as of now."""
    with connection.cursor() as cursor:
        cursor.execute(_CHOSEN)
        return dict(cursor.fetchall())


def agents_named(tenant_id: UUID) -> Mapping[str, int]:
    """How many agent runs are queued or at work whose steps name an agent, as of a second ago."""
    return _named.of(tenant_id)


def forget_loads() -> None:
    """Have the next look be a fresh one; for tests, which do not wait for a second."""
    _named.forget()


def _read() -> Mapping[str, int]:
    with connection.cursor() as cursor:
        cursor.execute(_NAMED, [current_tenant_id()])
        return dict(cursor.fetchall())


_named: Fresh[Mapping[str, int]] = Fresh(_read, seconds=_NAMED_SECONDS)
