"""A tenant as tests see it: its people, its project, its keys."""

from dataclasses import dataclass
from uuid import uuid4

from django.test import Client
from django.urls import reverse

from tenants.models import Project, Tenant, User
from tenants.roles import Scope
from tenants.scope import tenant_scope
from tenants.services.api_keys import create_api_key


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    tenant: Tenant
    project: Project
    owner: User

    def scope(self):
        return tenant_scope(self.tenant.id)

    def key(self, *scopes: str, project: Project | None = None) -> str:
        """A fresh secret; all scopes unless some are named."""
        with self.scope():
            return create_api_key(
                name="test", scopes=list(scopes or Scope.values), project=project
            ).secret

    def client(self, *scopes: str) -> Client:
        return Client(headers={"authorization": f"Bearer {self.key(*scopes)}"})

    def browser(self) -> Client:
        client = Client()
        client.force_login(self.owner)
        return client

    def operator(self) -> Client:
        """The browser of an operator of the platform who has gone to this tenant."""
        client = Client()
        client.force_login(User.objects.create_user(f"op-{uuid4().hex}", is_superuser=True))
        client.post(reverse("admin:switch_tenant"), {"tenant": self.tenant.id})
        return client
