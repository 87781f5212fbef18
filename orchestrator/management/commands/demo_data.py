import json
import secrets
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from orchestrator.core.yaml_io import load_text
from orchestrator.services.workflows import publish_spec
from tenants.models import ApiKey, Membership, Project, Tenant, User
from tenants.roles import Role, Scope
from tenants.scope import Actor, acting_as, as_operator, tenant_scope
from tenants.services.api_keys import create_api_key

TENANT = "demo"
PROJECT = "main"
ADMIN = "admin"
KEY = "demo"
BLUEPRINTS = ("research_report", "support_triage", "invoice_check")


class Command(BaseCommand):
    help = "Make the demo tenant: a login, a key and the blueprints. Fresh secrets every time."

    def handle(self, *args: Any, **options: Any) -> None:
        tenant, _ = Tenant.objects.using("system").get_or_create(
            slug=TENANT, defaults={"name": "Demo", "uses_environment_credentials": True}
        )
        password = secrets.token_urlsafe(9)
        with acting_as(Actor(kind="command", label="demo_data")), tenant_scope(tenant.id):
            project, _ = Project.objects.get_or_create(slug=PROJECT, defaults={"name": "Main"})
            _login(password)
            for name in BLUEPRINTS:
                path = settings.BASE_DIR / "templates" / "workflows" / f"{name}.yaml"
                publish_spec(project=project, spec=load_text(path.read_bytes()))
            ApiKey.objects.filter(name=KEY).delete()
            key = create_api_key(name=KEY, scopes=list(Scope.values))
        facts = {
            "tenant": TENANT,
            "project": PROJECT,
            "admin_user": ADMIN,
            "admin_password": password,
            "api_key": key.secret,
        }
        self.stdout.write(json.dumps(facts))


def _login(password: str) -> None:
    with as_operator():
        user, _ = User.objects.get_or_create(
            username=ADMIN, defaults={"is_staff": True, "is_superuser": True}
        )
        user.set_password(password)
        user.save(update_fields=["password"])
    Membership.objects.get_or_create(user=user, defaults={"role": Role.OWNER})
