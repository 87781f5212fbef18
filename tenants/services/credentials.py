"""Keeping tenants' own keys for providers: made, changed, rotated, retired, encrypted anew.

A secret goes in and never comes out here: only who makes a client decrypts it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings

from tenants import encryption
from tenants.addresses import address_fault
from tenants.errors import SecretUnreadableError
from tenants.kernel.clock import now
from tenants.models import Credential
from tenants.scope import as_operator
from tenants.selectors.credentials import FOR_TOOLS, providers_with_keys
from tenants.services.errors import (
    AddressRefusedError,
    AlreadyExistsError,
    KeylessProviderError,
    NothingToRetireError,
    ProviderTakenError,
    SecretInvalidError,
    StillRotatingError,
)

SHORTEST_SECRET = 8
LONGEST_SECRET = 1_000
# Of a shorter secret the last four characters would be too large a part.
_SHORTEST_WITH_HINT = 16
# Other providers have one address; a key is not sent elsewhere by mistake.
ADDRESSED = "compatible"


def create_credential(
    *,
    name: str,
    provider: str,
    secret: str,
    base_url: str = "",
    default_model: str = "",
    models: Mapping[str, str] | None = None,
    enabled: bool = True,
) -> Credential:
    """Keep a provider's key. While it is enabled, the tenant's calls to the provider use it."""
    credential = Credential(
        name=name,
        provider=provider,
        base_url=base_url,
        default_model=default_model,
        role_models=dict(models or {}),
        enabled=enabled,
    )
    check_secret(secret)
    _check(credential)
    credential.encrypted_with = encryption.newest_key_id()
    credential.secret = encryption.encrypted(secret, owner=credential.id)
    credential.hint = hint_of(secret)
    credential.save(force_insert=True)
    return credential


def change_credential(credential: Credential, **changes: Any) -> Credential:
    """Change all but secret, provider and address. Calls see it within seconds.

    The address stays, because a stored secret is not sent where somebody else may have pointed it.
    """
    row = _held(credential)
    if "models" in changes:
        changes["role_models"] = dict(changes.pop("models") or {})
    for field, value in changes.items():
        setattr(row, field, value)
    _check(row)
    row.version += 1
    row.save(update_fields=[*changes, "version", "updated_at"])
    return row


def rotate_credential(credential: Credential, *, secret: str) -> Credential:
    """Add a newer secret; the one before serves too until it is retired.

    One that cannot be read any more serves nobody, and is dropped.
    """
    row = _held(credential)
    check_secret(secret)
    if row.previous_secret and encryption.is_readable(row.encrypted_with):
        raise StillRotatingError(row.name)
    row.previous_secret, row.previous_hint = _kept(row, secret)
    row.secret, row.hint = encryption.encrypted(secret, owner=row.id), hint_of(secret)
    row.encrypted_with = encryption.newest_key_id()
    return _with_other_secrets(row)


def retire_secret(credential: Credential, *, newest: bool = False) -> Credential:
    """End one of two secrets: the older, or the newest, which gives up the rotation."""
    row = _held(credential)
    if not row.previous_secret:
        raise NothingToRetireError(row.name)
    if newest:
        row.secret, row.hint = row.previous_secret, row.previous_hint
    row.previous_secret, row.previous_hint = None, ""
    return _with_other_secrets(row)


def delete_credential(credential: Credential) -> None:
    credential.delete()


@dataclass(frozen=True, slots=True)
class Reencrypted:
    done: int
    unreadable: list[str]


def reencrypt_all() -> Reencrypted:
    """Bring the secrets of all tenants under the newest key, row by row: it can be repeated.

    What no key reads any more is left as it is, and named as tenant and credential.
    """
    newest = encryption.newest_key_id()
    rows = Credential.objects.db_manager("system").exclude(encrypted_with=newest)
    done, unreadable = 0, []
    for credential_id in rows.order_by("id").values_list("id", flat=True):
        with as_operator():
            row = rows.select_for_update().filter(id=credential_id).first()
            if row is None:
                continue  # deleted or rotated meanwhile
            try:
                _reencrypt(row, newest)
                done += 1
            except SecretUnreadableError:
                unreadable.append(f"{row.tenant_id}/{row.name}")
    return Reencrypted(done, unreadable)


def check_secret(secret: str) -> None:
    """Raises SecretInvalidError for what cannot be a key, without telling what it was."""
    if not secret.strip():
        raise SecretInvalidError("is empty")
    if not (secret.isascii() and secret.isprintable()) or " " in secret:
        raise SecretInvalidError(
            "holds a space, a line break or another character that no key has; copy it again"
        )
    if not SHORTEST_SECRET <= len(secret) <= LONGEST_SECRET:
        raise SecretInvalidError(f"has to have {SHORTEST_SECRET} to {LONGEST_SECRET} characters")


def hint_of(secret: str) -> str:
    return secret[-4:] if len(secret) >= _SHORTEST_WITH_HINT else ""


def _held(credential: Credential) -> Credential:
    """The row as it is now, which nobody else changes until the transaction ends."""
    return Credential.objects.select_for_update().get(id=credential.id)


def _check(row: Credential) -> None:
    known = (*providers_with_keys(), FOR_TOOLS)
    if row.provider not in known:
        raise KeylessProviderError(row.provider, known)
    _check_address(row)
    others = Credential.objects.exclude(id=row.id)
    if others.filter(name=row.name).exists():
        raise AlreadyExistsError("credential", row.name, "/name")
    if not row.enabled or row.provider == FOR_TOOLS:
        return
    rival = others.filter(provider=row.provider, enabled=True).first()
    if rival is not None:
        raise ProviderTakenError(row.provider, rival.name)


def _check_address(row: Credential) -> None:
    has_default = bool(settings.MUSTER_PROVIDERS.get(row.provider, {}).get("base_url"))
    if not row.base_url:
        if row.provider == ADDRESSED and not has_default:
            raise AddressRefusedError("is missing: this provider has none of its own")
        return
    if row.provider != ADDRESSED:
        raise AddressRefusedError(f"cannot be chosen for {row.provider}; leave it out")
    fault = address_fault(row.base_url, allowed=settings.MUSTER_PRIVATE_NETWORKS)
    if fault:
        raise AddressRefusedError(fault)


def _kept(row: Credential, secret: str) -> tuple[bytes | None, str]:
    try:
        if encryption.decrypted(row.secret, owner=row.id) == secret:
            raise SecretInvalidError("is the one that it has already")
        return encryption.encrypted_anew(row.secret), row.hint
    except SecretUnreadableError:
        return None, ""


def _with_other_secrets(row: Credential) -> Credential:
    row.version += 1
    row.rotated_at, row.refused_at = now(), None
    row.save(
        update_fields=[
            *("secret", "hint", "previous_secret", "previous_hint", "encrypted_with"),
            *("version", "rotated_at", "refused_at", "updated_at"),
        ]
    )
    return row


def _reencrypt(row: Credential, newest: str) -> None:
    row.secret = encryption.encrypted_anew(row.secret)
    if row.previous_secret:
        row.previous_secret = encryption.encrypted_anew(row.previous_secret)
    row.encrypted_with = newest
    row.save(using="system", update_fields=["secret", "previous_secret", "encrypted_with"])


def note_use(credential_id: UUID) -> None:
    Credential.objects.filter(id=credential_id).update(last_used_at=now())


def note_refusal(credential_id: UUID, *, version: int) -> None:
    """The provider has refused the newest secret of this version."""
    Credential.objects.filter(id=credential_id, version=version).update(refused_at=now())
