"""The least that is valid."""

import itertools
import uuid

from tenants.models import Membership, Project, Tenant, User
from tenants.roles import Role
from tenants.scope import tenant_scope
from tests.world import World

_numbers = itertools.count(1)


def make_tenant(name: str, *, role: str = Role.OWNER) -> World:
    """A tenant with a project and a member; slugs are unique, so tests never meet."""
    slug = f"{name}-{uuid.uuid4().hex[:8]}"
    tenant = Tenant.objects.using("system").create(
        slug=slug, name=name.title(), uses_environment_credentials=True
    )
    with tenant_scope(tenant.id):
        project = Project.objects.create(slug="main", name="Main")
        owner = User.objects.create_user(f"{name}-{next(_numbers)}-{slug}", password="secret")
        Membership.objects.create(user=owner, role=role)
    return World(tenant=tenant, project=project, owner=owner)
