from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from tenants.kernel.clock import now
from tenants.models import Project, Tenant
from tenants.roles import ROLE_SCOPES, Role, Scope
from tenants.scope import Actor, acting_as, tenant_scope
from tenants.services.api_keys import create_api_key

# What a program needs that defines workflows and runs them.
_USUAL = sorted(ROLE_SCOPES[Role.EDITOR])


class Command(BaseCommand):
    help = "Make an API key for a tenant. Prints the key, which is shown this once, to stdout."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant", required=True, metavar="SLUG")
        parser.add_argument("--name", default="command line", help="What the key is for.")
        parser.add_argument("--project", metavar="SLUG", help="Narrow the key to one project.")
        parser.add_argument(
            "--scope",
            dest="scopes",
            action="append",
            choices=Scope.values,
            help=f"What it may do; repeat for several. Unless told: {', '.join(_USUAL)}.",
        )
        parser.add_argument("--expires-days", type=int, metavar="N", help="Never, unless told.")

    def handle(
        self,
        *args: Any,
        tenant: str,
        name: str,
        project: str | None,
        scopes: list[str] | None,
        expires_days: int | None,
        **options: Any,
    ) -> None:
        if expires_days is not None and not 1 <= expires_days <= 36_500:
            raise CommandError("--expires-days is a number from 1 to 36500.", returncode=2)
        found = Tenant.objects.using("system").filter(slug=tenant).first()
        if found is None:
            raise CommandError(f"There is no tenant {tenant!r}; use create_tenant.", returncode=2)
        with acting_as(Actor(kind="command", label="create_api_key")), tenant_scope(found.id):
            key = create_api_key(
                name=name,
                scopes=scopes or _USUAL,
                project=_project(project) if project else None,
                expires_at=now() + timedelta(days=expires_days) if expires_days else None,
            )
        self.stderr.write(f"Key {key.row.prefix}... of {tenant}: {', '.join(key.row.scopes)}")
        self.stdout.write(key.secret)


def _project(slug: str) -> Project:
    found = Project.objects.filter(slug=slug).first()
    if found is None:
        raise CommandError(f"There is no project {slug!r} in this tenant.", returncode=2)
    return found
