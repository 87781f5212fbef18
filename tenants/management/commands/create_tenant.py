from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from tenants.models import User, slug_validator
from tenants.scope import Actor, acting_as, as_operator
from tenants.services.errors import AlreadyExistsError
from tenants.services.tenants import FIRST_PROJECT, create_tenant


class Command(BaseCommand):
    help = f"Make a tenant with a first project, {FIRST_PROJECT!r}. Prints its id."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", help="Short name: lower-case letters, digits, hyphens.")
        parser.add_argument("--name", default="", help="Name for people; the slug unless told.")
        parser.add_argument(
            "--owner", metavar="USERNAME", help="Who owns it. A new account gets no password yet."
        )
        parser.add_argument(
            "--environment-credentials",
            action="store_true",
            help="Let it use the provider keys of this installation's environment.",
        )

    def handle(
        self,
        *args: Any,
        slug: str,
        name: str,
        owner: str | None,
        environment_credentials: bool,
        **options: Any,
    ) -> None:
        try:
            slug_validator(slug)
            with acting_as(Actor(kind="command", label="create_tenant")), as_operator():
                tenant = create_tenant(
                    slug=slug,
                    name=name,
                    owner=self._account(owner) if owner else None,
                    uses_environment_credentials=environment_credentials,
                )
        except ValidationError as error:
            raise CommandError(f"{slug!r}: {error.messages[0]}", returncode=2) from None
        except AlreadyExistsError as error:
            raise CommandError(str(error), returncode=2) from None
        self.stdout.write(str(tenant.id))

    def _account(self, username: str) -> User:
        user, is_new = User.objects.get_or_create(username=username)
        if is_new:
            user.set_unusable_password()
            user.save(update_fields=["password"])
            self.stderr.write(f"{username} is new; set a password: changepassword {username}")
        return user
