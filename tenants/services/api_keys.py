"""Making, rotating and revoking keys. A key lives no longer than the one that made it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection

from tenants.kernel.clock import now
from tenants.models import ApiKey, Project
from tenants.principals import Principal, hash_key, new_key
from tenants.scope import current_tenant_id
from tenants.selectors.api_keys import FAMILY
from tenants.services.errors import (
    ExpiryExceededError,
    KeyEndedError,
    KeyReplacedError,
    NarrowedKeyError,
    ScopeExceededError,
)

GRACE = timedelta(hours=1)
_SHOWN = 11

_REVOKE = (
    FAMILY
    + """
UPDATE api_key
   SET revoked_at = statement_timestamp(), updated_at = statement_timestamp(),
       revoked_reason = CASE WHEN api_key.id = %(key)s THEN %(why)s ELSE %(why_others)s END
  FROM family
 WHERE api_key.id = family.id AND api_key.revoked_at IS NULL
"""
)


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
        _take_turns()
        _refuse_revoked(by)
    return _made(name=name, scopes=wanted, project=project, expires_at=expires_at, by=by)


def rotate_api_key(key: ApiKey, *, by: Principal, grace: timedelta = GRACE) -> NewKey:
    """A fresh key for the same use; the old one ends with the grace, or now if there is none.

    The new one is given as long a life as the old one was, yet never a longer one than the
    key that asks for it. Keys made with the old one stay, unless it is revoked.
    """
    _take_turns()
    _refuse_revoked(by)
    key.refresh_from_db()
    moment = now()
    _refuse_ended(key, moment)
    _refuse_wider(key.scopes, key.project, by)
    if not grace:
        revoke_api_key(key, why="Rotated without a grace.")
    new = _made(
        name=key.name,
        scopes=key.scopes,
        project=key.project,
        expires_at=_earlier(_counted_anew(key, moment), by.expires_at),
        by=by,
    )
    key.replaced_by = new.row
    key.expires_at = _earlier(key.expires_at, moment + grace)
    key.save(update_fields=["replaced_by", "expires_at", "updated_at"])
    return new


def revoke_api_key(key: ApiKey, *, why: str = "") -> ApiKey:
    """Shut a key for good, with all keys made with it, theirs included.

    Revoking twice keeps the first time.
    """
    if key.revoked_at is not None:
        return key
    _take_turns()
    others = f"Revoked with the key {key}, from which it stems."
    with connection.cursor() as cursor:
        cursor.execute(_REVOKE, {"key": key.id, "why": why, "why_others": others})
    key.refresh_from_db()
    return key


def _made(
    *,
    name: str,
    scopes: list[str],
    project: Project | None,
    expires_at: datetime | None,
    by: Principal | None,
) -> NewKey:
    secret = new_key()
    row = ApiKey.objects.create(
        name=name,
        scopes=scopes,
        project=project,
        expires_at=expires_at,
        made_by_id=by.key_id if by else None,
        prefix=secret[:_SHOWN],
        key_hash=hash_key(secret),
    )
    return NewKey(row, secret)


def _take_turns() -> None:
    """Until the transaction ends, nobody else makes, rotates or revokes keys of the tenant.

    Else a key could be made with one that is just being revoked, and outlive it.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))",
            [f"api keys of {current_tenant_id()}"],
        )


def _refuse_revoked(by: Principal) -> None:
    # The caller was let in before it was its turn.
    if by.key_id and not ApiKey.objects.filter(id=by.key_id, revoked_at=None).exists():
        raise KeyEndedError(by.label)


def _refuse_ended(key: ApiKey, moment: datetime) -> None:
    if key.replaced_by is not None:
        raise KeyReplacedError(str(key), str(key.replaced_by))
    if not key.is_usable(moment):
        raise KeyEndedError(str(key))


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


def _counted_anew(key: ApiKey, moment: datetime) -> datetime | None:
    return None if key.expires_at is None else moment + (key.expires_at - key.created_at)


def _earlier(*ends: datetime | None) -> datetime | None:
    return min((end for end in ends if end is not None), default=None)
