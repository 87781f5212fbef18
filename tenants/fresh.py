"""What workers have to know of a tenant: looked up every few seconds, and shared by threads."""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Generic, TypeVar
from uuid import UUID

from cachetools import LRUCache, TTLCache
from django.db import DatabaseError, connection
from psycopg_pool import PoolTimeout

from tenants.loading import SingleFlight
from tenants.scope import tenant_scope

FRESH_SECONDS: Final = 5.0
_TENANTS: Final = 10_000

ValueT = TypeVar("ValueT")


class Fresh(Generic[ValueT]):
    """What `read` gives inside of a tenant's scope, at most so many `seconds` old.

    While the database is away, what was known last counts.
    """

    def __init__(self, read: Callable[[], ValueT], *, seconds: float = FRESH_SECONDS) -> None:
        self._read = read
        self._fresh: TTLCache[UUID, ValueT] = TTLCache(maxsize=_TENANTS, ttl=seconds)
        self._known: LRUCache[UUID, ValueT] = LRUCache(maxsize=_TENANTS)
        self._guard = threading.Lock()
        self._load: SingleFlight[UUID, ValueT] = SingleFlight(self._look)

    def of(self, tenant_id: UUID) -> ValueT:
        with self._guard, suppress(KeyError):
            return self._fresh[tenant_id]
        return self._load(tenant_id)

    def forget(self, tenant_id: UUID | None = None) -> None:
        """Look again at once: for this tenant, or for all of them."""
        with self._guard:
            if tenant_id is None:
                self._fresh.clear()
            else:
                self._fresh.pop(tenant_id, None)

    def _look(self, tenant_id: UUID) -> ValueT:
        try:
            with tenant_scope(tenant_id):
                found = self._read()
        except (DatabaseError, PoolTimeout):
            with self._guard, suppress(KeyError):
                return self._known[tenant_id]
            raise
        finally:
            if not connection.in_atomic_block:
                # Back to the pool at once: what follows may take minutes.
                connection.close()
        with self._guard:
            self._fresh[tenant_id] = self._known[tenant_id] = found
        return found
