"""Making and suspending tenants: an operator's work, through the system's connection."""

from typing import Any

from tenants.models import Membership, Project, Tenant, TenantStatus, User
from tenants.roles import Role
from tenants.scope import as_operator
from tenants.services.errors import AlreadyExistsError
from tenants.signals import tenant_created

FIRST_PROJECT = "main"


def create_tenant(
    *,
    slug: str,
    name: str = "",
    owner: User | None = None,
    **settings: Any,
) -> Tenant:
    """A tenant with its first project, so that there is a place for a first workflow.

    Whatever else new tenants get is added by those who hear of `tenant_created`, or none is made.
    `settings` are further fields of the tenant.
    """
    with as_operator():
        if Tenant.objects.using("system").filter(slug=slug).exists():
            raise AlreadyExistsError("tenant", slug, "/slug")
        tenant = Tenant.objects.using("system").create(
            slug=slug,
            name=name or slug,
            **settings,
        )
        Project.objects.db_manager("system").create(
            tenant=tenant, slug=FIRST_PROJECT, name=FIRST_PROJECT.title()
        )
        if owner is not None:
            Membership.objects.db_manager("system").create(
                tenant=tenant, user_id=owner.id, role=Role.OWNER
            )
        tenant_created.send(Tenant, tenant=tenant)
    return tenant


def change_tenant(tenant: Tenant, **changes: Any) -> Tenant:
    for field, value in changes.items():
        setattr(tenant, field, value)
    with as_operator():
        tenant.save(using="system", update_fields=[*changes, "updated_at"])
    return tenant


def suspend_tenant(tenant: Tenant, *, reason: str = "") -> Tenant:
    """Refuse the tenant's new runs from now on."""
    return change_tenant(tenant, status=TenantStatus.SUSPENDED, suspended_reason=reason)


def resume_tenant(tenant: Tenant) -> Tenant:
    return change_tenant(tenant, status=TenantStatus.ACTIVE, suspended_reason="")
