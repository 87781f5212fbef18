"""Tenants' own keys as a worker needs them: looked up every few seconds, opened for a client.

A secret is decrypted where the client is made and lies in no other place. A client is kept for
as long as its credential's version is the latest known here, so that what is changed, rotated or
disabled counts within `FRESH_SECONDS` in every process.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from uuid import UUID

import structlog
from cachetools import LRUCache, TTLCache
from django.db import DatabaseError, connection
from psycopg_pool import PoolTimeout

from agents_app.providers.base import ProviderClient, ProviderSettings, vendor_client
from agents_app.providers.rotation import RotatingClient
from tenants import encryption
from tenants.loading import SingleFlight
from tenants.scope import tenant_scope
from tenants.selectors.credentials import ServingCredential, serving_credentials
from tenants.services.credentials import note_refusal, note_use

log = structlog.get_logger(__name__)

FRESH_SECONDS = 5.0
_NOTED_SECONDS = 60.0
_TENANTS = 10_000
_AWAY = (DatabaseError, PoolTimeout)

Own = Mapping[str, ServingCredential]


@dataclass(frozen=True, slots=True)
class _Kept:
    version: int
    settings: ProviderSettings
    client: ProviderClient


_fresh: TTLCache[UUID, Own] = TTLCache(maxsize=_TENANTS, ttl=FRESH_SECONDS)
# What was known last, for while the database is away: no call begins then that it would record.
_known: LRUCache[UUID, Own] = LRUCache(maxsize=_TENANTS)
_clients: LRUCache[UUID, _Kept] = LRUCache(maxsize=1_000)
_noted: TTLCache[UUID, bool] = TTLCache(maxsize=_TENANTS, ttl=_NOTED_SECONDS)
_guard = threading.Lock()


def credentials_of(tenant_id: UUID) -> Own:
    """The tenant's enabled credentials by provider, at most `FRESH_SECONDS` old."""
    with _guard:
        fresh = _fresh.get(tenant_id)
    return _load(tenant_id) if fresh is None else fresh


def own_client(
    tenant_id: UUID, credential: ServingCredential, settings: ProviderSettings
) -> ProviderClient:
    """The client of a credential. Raises SecretUnreadableError; notes that it is used."""
    _note_use(tenant_id, credential.id)
    with _guard:
        kept = _clients.get(credential.id)
    if kept and (kept.version, kept.settings) == (credential.version, settings):
        return kept.client
    made = _made(tenant_id, credential, settings)
    with _guard:
        _clients[credential.id] = _Kept(credential.version, settings, made)
    return made


def clients_of_each_secret(
    credential: ServingCredential, settings: ProviderSettings
) -> list[ProviderClient]:
    """A client for each secret, newest first. Raises SecretUnreadableError."""
    secrets = (encryption.decrypted(token, owner=credential.id) for token in credential.secrets)
    return [vendor_client(replace(settings, api_key=secret)) for secret in secrets]


def _made(
    tenant_id: UUID, credential: ServingCredential, settings: ProviderSettings
) -> ProviderClient:
    newest, *previous = clients_of_each_secret(credential, settings)
    return RotatingClient(
        newest,
        previous[0] if previous else None,
        on_refused=lambda: _note_refusal(tenant_id, credential),
    )


def _read(tenant_id: UUID) -> Own:
    try:
        with _aside(tenant_id):
            found: Own = serving_credentials()
    except _AWAY:
        with _guard:
            known = _known.get(tenant_id)
        if known is None:
            raise
        return known
    with _guard:
        serving = {credential.id for credential in found.values()}
        for before in _known.get(tenant_id, {}).values():
            if before.id not in serving:
                # With it goes the only opened copy of its secrets.
                _clients.pop(before.id, None)
        _fresh[tenant_id] = _known[tenant_id] = found
    return found


_load: SingleFlight[UUID, Own] = SingleFlight(_read)


def _note_use(tenant_id: UUID, credential_id: UUID) -> None:
    with _guard:
        if _noted.get(credential_id):
            return
        _noted[credential_id] = True
    _note(tenant_id, lambda: note_use(credential_id))


def _note_refusal(tenant_id: UUID, credential: ServingCredential) -> None:
    log.warning("credential_refused", credential=str(credential.id), provider=credential.provider)
    _note(tenant_id, lambda: note_refusal(credential.id, version=credential.version))


def _note(tenant_id: UUID, work: Callable[[], None]) -> None:
    try:
        with _aside(tenant_id):
            work()
    except _AWAY as error:
        log.warning("credential_note_lost", error=type(error).__name__)


@contextmanager
def _aside(tenant_id: UUID) -> Iterator[None]:
    try:
        with tenant_scope(tenant_id):
            yield
    finally:
        if not connection.in_atomic_block:
            # Back to the pool at once: the model call that follows may take minutes.
            connection.close()
