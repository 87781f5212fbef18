from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from tenants.errors import EncryptionOffError
from tenants.services.credentials import reencrypt_all


class Command(BaseCommand):
    help = "Encrypt the provider keys of all tenants anew, with the first of CREDENTIALS_KEYS."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("action", choices=["reencrypt"])

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            result = reencrypt_all()
        except EncryptionOffError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{result.done} credentials are under the newest key now.")
        if result.unreadable:
            for name in result.unreadable:
                self.stderr.write(f"No key reads {name} (tenant id/credential).")
            raise SystemExit(1)
