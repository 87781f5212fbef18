"""Which tenant the current work belongs to: the one choke point of tenant isolation.

`tenant_scope` opens the transaction, tells PostgreSQL the tenant (row-level security reads
it) and sets the context variable that `ScopedManager` filters by. Outside a scope a query
for a tenant's rows raises; under a scope it sees that tenant alone.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from typing import Any, TypeVar
from uuid import UUID

from django.db import connection, connections, models, transaction

from tenants.errors import TenantScopeError


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who acts, as the audit log shows it."""

    kind: str = "system"
    id: str = ""
    label: str = ""
    ip: str = ""
    request_id: str = ""

    @property
    def name(self) -> str:
        """What to call it in a sentence."""
        return self.label or "the system"


_tenant: ContextVar[UUID | None] = ContextVar("tenant", default=None)
_SYSTEM = Actor()
_actor: ContextVar[Actor] = ContextVar("actor", default=_SYSTEM)

# One statement for all settings: the third argument ties them to the transaction.
_ENTER = "SELECT set_config('app.tenant_id', %s, true), set_config('app.actor', %s, true)"


def current_tenant_id() -> UUID:
    tenant_id = _tenant.get()
    if tenant_id is None:
        raise TenantScopeError("No tenant scope is open; wrap the work in tenant_scope().")
    return tenant_id


def has_tenant_scope() -> bool:
    return _tenant.get() is not None


def current_actor() -> Actor:
    return _actor.get()


@contextmanager
def acting_as(actor: Actor) -> Iterator[None]:
    """Name who acts in the scopes that are opened inside."""
    token = _actor.set(actor)
    try:
        yield
    finally:
        _actor.reset(token)


@contextmanager
def tenant_scope(tenant_id: UUID | str) -> Iterator[None]:
    """Work for one tenant, in one transaction. Nests for the same tenant only."""
    wanted = tenant_id if isinstance(tenant_id, UUID) else UUID(tenant_id)
    outer = _tenant.get()
    if outer is not None and outer != wanted:
        raise TenantScopeError(
            f"The scope of tenant {outer} is open; {wanted} must wait for its end."
        )
    with transaction.atomic():
        if outer is None:
            _tell_database(str(wanted), json.dumps(asdict(current_actor())))
        token = _tenant.set(wanted)
        try:
            yield
        finally:
            _tenant.reset(token)
    # Inside a larger transaction the settings would outlive the scope.
    if outer is None and connection.in_atomic_block:
        _tell_database("", "")


@contextmanager
def as_operator() -> Iterator[None]:
    """A transaction of the system's connection whose changes the audit log signs."""
    with transaction.atomic(using="system"):
        with connections["system"].cursor() as cursor:
            actor = json.dumps(asdict(current_actor()))
            cursor.execute("SELECT set_config('app.actor', %s, true)", [actor])
        yield


def _tell_database(tenant_id: str, actor: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_ENTER, [tenant_id, actor])


_M = TypeVar("_M", bound=models.Model)


class ScopedManager(models.Manager[_M]):
    """Rows of the open scope's tenant; raises `TenantScopeError` outside one."""

    def get_queryset(self) -> models.QuerySet[_M]:
        queryset = super().get_queryset()
        if self._db is not None and self._db != "default":
            # The system and owner aliases span tenants on purpose.
            return queryset
        filters: dict[str, Any] = {"tenant_id": current_tenant_id()}
        return queryset.filter(**filters)
