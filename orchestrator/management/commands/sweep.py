import json
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from psycopg import OperationalError
from psycopg_pool import PoolTimeout

from orchestrator.services.sweep import sweep


class Command(BaseCommand):
    help = (
        "Look once for lost workers, lost messages and runs that nobody drives, and mend them. "
        "All zero also means that a control worker was sweeping at this moment."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="Print one JSON object.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            mended = asdict(sweep())
        except (OperationalError, PoolTimeout) as error:
            raise CommandError(f"The database cannot be reached: {error}") from error
        if options["json"]:
            self.stdout.write(json.dumps(mended))
            return
        for kind, count in mended.items():
            self.stdout.write(f"{kind:<12} {count}")
