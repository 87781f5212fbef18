"""The tenant's own keys for providers: as people see them, and as calls need them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from django.conf import settings
from django.db.models import Prefetch, QuerySet

from tenants import encryption
from tenants.models import Credential, ProviderCheck

DISABLED = "disabled"
UNREADABLE = "unreadable"  # encrypted with a key that the platform no longer has
REFUSED = "refused"  # the provider has refused the newest secret since it was last checked
FAILING = "failing"
WORKING = "working"
UNCHECKED = "unchecked"
# In the place of a provider: what tools call others with. There may be any number of them.
FOR_TOOLS = "tool"
STATES = (DISABLED, UNREADABLE, REFUSED, FAILING, WORKING, UNCHECKED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingCredential:
    """What a call needs of an enabled credential. The secrets are still encrypted, newest first."""

    id: UUID
    name: str
    provider: str
    base_url: str
    default_model: str
    role_models: Mapping[str, str]
    version: int
    encrypted_with: str
    secrets: tuple[bytes, ...] = field(repr=False)

    @property
    def is_readable(self) -> bool:
        return encryption.is_readable(self.encrypted_with)


def providers_with_keys() -> tuple[str, ...]:
    return tuple(name for name, given in settings.MUSTER_PROVIDERS.items() if "api_key" in given)


def credentials() -> QuerySet[Credential]:
    checks = Prefetch("checks", queryset=ProviderCheck.objects.all())
    return Credential.objects.prefetch_related(checks)


def last_check(credential: Credential) -> ProviderCheck | None:
    """The last check that has a result, of the credential as it is now."""
    for check in credential.checks.all():
        if check.finished_at and check.started_at >= (credential.rotated_at or check.started_at):
            return check
    return None


def state_of(credential: Credential) -> str:
    if not credential.enabled:
        return DISABLED
    if not encryption.is_readable(credential.encrypted_with):
        return UNREADABLE
    check = last_check(credential)
    refused = credential.refused_at
    if refused and (check is None or check.started_at < refused):
        return REFUSED
    if check is None:
        return UNCHECKED
    return WORKING if check.ok else FAILING


def serving_credentials() -> dict[str, ServingCredential]:
    """By provider, the enabled credentials of the open tenant."""
    rows = Credential.objects.filter(enabled=True).exclude(provider=FOR_TOOLS)
    return {row.provider: serving(row) for row in rows}


def credential_for_tools(name: str) -> ServingCredential | None:
    row = Credential.objects.filter(enabled=True, provider=FOR_TOOLS, name=name).first()
    return serving(row) if row else None


def serving(row: Credential) -> ServingCredential:
    return ServingCredential(
        id=row.id,
        name=row.name,
        provider=row.provider,
        base_url=row.base_url,
        default_model=row.default_model,
        role_models=row.role_models,
        version=row.version,
        encrypted_with=row.encrypted_with,
        secrets=tuple(bytes(each) for each in (row.secret, row.previous_secret) if each),
    )
