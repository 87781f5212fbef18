"""Who is calling: a person in a tenant, or a tenant's key. One vocabulary of scopes for both."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection

from tenants.models import Tenant, User
from tenants.roles import ROLE_SCOPES, Role, Scope
from tenants.scope import Actor

KEY_PREFIX = "mk_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """An authenticated caller inside one tenant.

    `project_id` narrows a key to one project; `expires_at` is when a key ends, if it does.
    `is_authenticated` is what Django REST framework asks of a user.
    """

    tenant_id: UUID
    scopes: frozenset[str]
    actor_kind: str
    actor_id: str
    label: str
    project_id: UUID | None = None
    expires_at: datetime | None = None
    role: str = ""
    is_operator: bool = False
    is_authenticated: bool = True

    @property
    def key_id(self) -> UUID | None:
        """The key that calls; None for a person."""
        return UUID(self.actor_id) if self.actor_kind == "api_key" else None

    def may(self, scope: str) -> bool:
        return scope in self.scopes

    def actor(self, *, ip: str, request_id: str) -> Actor:
        return Actor(
            kind=self.actor_kind, id=self.actor_id, label=self.label, ip=ip, request_id=request_id
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantChoice:
    """A tenant that a person may work in, and as what."""

    tenant_id: UUID
    slug: str
    name: str
    role: str


def new_key() -> str:
    """A fresh secret: the prefix tells secret scanners what leaked."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def hash_key(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def principal_of_key(key: str) -> Principal | str:
    """The caller behind a key, or the reason why it is none (unknown, revoked, expired)."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT key_id, tenant_id, project_id, name, scopes, expires_at, state"
            " FROM muster_key_by_hash(%s)",
            [hash_key(key)],
        )
        row = cursor.fetchone()
    if row is None:
        return "unknown"
    key_id, tenant_id, project_id, name, scopes, expires_at, state = row
    if state != "valid":
        return str(state)
    return Principal(
        tenant_id=tenant_id,
        project_id=project_id,
        scopes=frozenset(scopes),
        actor_kind="api_key",
        actor_id=str(key_id),
        label=name,
        expires_at=expires_at,
    )


def tenants_of(user: User) -> list[TenantChoice]:
    """Where a person may work; an operator everywhere."""
    if user.is_superuser:
        return [
            TenantChoice(tenant_id=t.id, slug=t.slug, name=t.name, role=Role.OWNER)
            for t in Tenant.objects.using("system").order_by("name")
        ]
    with connection.cursor() as cursor:
        cursor.execute("SELECT tenant_id, slug, name, role FROM muster_memberships(%s)", [user.id])
        return [
            TenantChoice(tenant_id=tenant_id, slug=slug, name=name, role=role)
            for tenant_id, slug, name, role in cursor.fetchall()
        ]


def principal_of_user(user: User, *, wanted: str | None) -> Principal | None:
    """The person in the tenant they chose, else in their first one; None without any."""
    choices = tenants_of(user)
    chosen = next((c for c in choices if str(c.tenant_id) == wanted), None) or (
        choices[0] if choices else None
    )
    if chosen is None:
        return None
    return Principal(
        tenant_id=chosen.tenant_id,
        scopes=frozenset(ROLE_SCOPES[chosen.role]),
        actor_kind="user",
        actor_id=str(user.id),
        label=user.get_username(),
        role=chosen.role,
        is_operator=user.is_superuser,
    )


def has_scope(principal: Any, scope: Scope | str) -> bool:
    return isinstance(principal, Principal) and principal.may(scope)
