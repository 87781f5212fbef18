from dataclasses import dataclass
from datetime import datetime

from django.db.models.functions import Now

from tenants.models import ApiKey, Project
from tenants.principals import hash_key, new_key

_SHOWN = 11


@dataclass(frozen=True, slots=True)
class NewKey:
    """The row and its secret, which is nowhere else: show it now or never."""

    row: ApiKey
    secret: str


def create_api_key(
    *,
    name: str,
    scopes: list[str],
    project: Project | None = None,
    expires_at: datetime | None = None,
) -> NewKey:
    secret = new_key()
    row = ApiKey.objects.create(
        name=name,
        scopes=sorted(set(scopes)),
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
