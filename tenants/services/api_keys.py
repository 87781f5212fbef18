from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db.models.functions import Now

from tenants.models import ApiKey, Project
from tenants.principals import Principal, hash_key, new_key
from tenants.services.errors import ExpiryExceededError, NarrowedKeyError, ScopeExceededError

_SHOWN = 11


@dataclass(frozen=True, slots=True)
class NewKey:
    """The row and its secret, which is nowhere else: show it now or never."""

    row: ApiKey
    secret: str


def create_api_key(
    *,
    name: str,
    scopes: Iterable[str],
    project: Project | None = None,
    expires_at: datetime | None = None,
    by: Principal | None = None,
) -> NewKey:
    """A new key, never wider than its maker's own scopes and project, nor of longer life.

    Without a time of its own it ends when the key does that makes it.
    """
    wanted = sorted(set(scopes))
    if by is not None:
        _refuse_wider(wanted, project, by)
        expires_at = _end(expires_at, by)
    secret = new_key()
    row = ApiKey.objects.create(
        name=name,
        scopes=wanted,
        project=project,
        expires_at=expires_at,
        prefix=secret[:_SHOWN],
        key_hash=hash_key(secret),
    )
    return NewKey(row, secret)


def revoke_api_key(key: ApiKey) -> ApiKey:
    """Shut a key for good. Revoking twice keeps the first time."""
    ApiKey.objects.filter(id=key.id, revoked_at=None).update(revoked_at=Now())
    key.refresh_from_db()
    return key


def _refuse_wider(scopes: list[str], project: Project | None, by: Principal) -> None:
    excess = tuple(scope for scope in scopes if not by.may(scope))
    if excess:
        raise ScopeExceededError(excess)
    if by.project_id is not None and (project is None or project.id != by.project_id):
        raise NarrowedKeyError


def _end(wanted: datetime | None, by: Principal) -> datetime | None:
    if wanted is None or by.expires_at is None:
        return wanted or by.expires_at
    if wanted > by.expires_at:
        raise ExpiryExceededError(by.expires_at)
    return wanted
