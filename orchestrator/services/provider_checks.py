"""Asking a provider, as a tenant would call it, whether it works.

In three parts, since nothing may be held while the provider is asked: `begin` and `finish` each
in a scope of their own, `ask` between them in none.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import connection

from agents_app.core.errors import AgentsError
from agents_app.providers.base import ProviderClient, ProviderSettings, client_for
from agents_app.providers.check import CheckResult, check_client
from orchestrator.execution.credentials import clients_of_each_secret
from orchestrator.execution.providers import settings_for, unusable
from tenants.errors import SecretUnreadableError
from tenants.models import Credential, ProviderCheck, Tenant
from tenants.scope import current_tenant_id, tenant_scope
from tenants.selectors.credentials import (
    FOR_TOOLS,
    ServingCredential,
    serving,
    serving_credentials,
)
from tenants.services import provider_checks as turns
from tenants.services.errors import UncheckableError

DEADLINE_SECONDS = 10.0
_LONGEST_DETAIL = 500
_WHICH = ("newest secret", "the one before")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """A check that has its turn; `fault` is why there is nobody to ask."""

    turn: ProviderCheck
    settings: ProviderSettings
    clients: Sequence[ProviderClient] = ()
    fault: str | None = None


def begin_provider_check(name: str) -> Asking:
    """For a provider with whatever the tenant calls it with. Raises CheckTooSoonError."""
    own = serving_credentials()
    credential = own.get(name)
    tenant = Tenant.objects.get(id=current_tenant_id())
    uses_environment = tenant.uses_environment_credentials
    fault = unusable(name, own=own, uses_environment=uses_environment)
    return _begun(name, own, credential, fault)


def begin_credential_check(row: Credential) -> Asking:
    """For one credential, enabled or not. Raises CheckTooSoonError and UncheckableError."""
    if row.provider == FOR_TOOLS:
        raise UncheckableError(row.name)
    credential = serving(row)
    own = {row.provider: credential}
    fault = unusable(row.provider, own=own, uses_environment=False)
    return _begun(row.provider, own, credential, fault)


def ask(asking: Asking, *, deadline_seconds: float = DEADLINE_SECONDS) -> dict[str, Any]:
    """What the provider says, as the columns of a check; of two secrets, the newest decides."""
    if asking.fault:
        return {"detail": asking.fault}
    results = [
        check_client(client, asking.settings, deadline_seconds=deadline_seconds)
        for client in asking.clients
    ]
    newest = results[0]
    return {
        "ok": newest.ok,
        "reachable": newest.reachable,
        "detail": _detail(results)[:_LONGEST_DETAIL],
        "model": newest.model,
        "latency_ms": newest.latency_ms,
        "limits": dict(newest.limits),
    }


def finish(asking: Asking, found: Mapping[str, Any]) -> ProviderCheck:
    return turns.finish_check(asking.turn, found)


def checked(
    tenant_id: UUID, begin: Callable[[], Asking], *, deadline_seconds: float = DEADLINE_SECONDS
) -> ProviderCheck:
    """All three, for who holds no scope."""
    with tenant_scope(tenant_id):
        asking = begin()
    give_back_connection()
    found = ask(asking, deadline_seconds=deadline_seconds)
    with tenant_scope(tenant_id):
        return finish(asking, found)


def give_back_connection() -> None:
    """To the pool, while a provider takes its time."""
    if not connection.in_atomic_block:
        connection.close()


def _begun(
    name: str,
    own: Mapping[str, ServingCredential],
    credential: ServingCredential | None,
    fault: str | None,
) -> Asking:
    settings = settings_for(name, own)
    if settings is None:
        raise LookupError(name)
    row = Credential.objects.get(id=credential.id) if credential else None
    turn = turns.begin_check(name, credential=row)
    if fault:
        return Asking(turn=turn, settings=settings, fault=fault)
    try:
        if credential is None:
            return Asking(turn=turn, settings=settings, clients=[client_for(settings)])
        clients = clients_of_each_secret(credential, settings)
    except (SecretUnreadableError, AgentsError) as error:
        return Asking(turn=turn, settings=settings, fault=str(error))
    return Asking(turn=turn, settings=settings, clients=clients)


def _detail(results: Sequence[CheckResult]) -> str:
    if len(results) == 1:
        return results[0].detail
    return "; ".join(
        f"{which}: {result.detail}" for which, result in zip(_WHICH, results, strict=True)
    )
