import os
import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    help = (
        "Run a storm of faults over servers and workers of its own, and print a verdict on each "
        "invariant as one line of JSON. Exit code 0 if all hold."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--seed", type=int, help="Repeat the storm of this seed.")
        parser.add_argument("--short", action="store_true", help="One minute instead of ten.")
        parser.add_argument(
            "--money", action="store_true", help="Over one hard budget and one set of limits."
        )
        parser.add_argument("--keep", action="store_true", help="Keep the logs in any case.")

    def handle(self, *args: Any, **options: Any) -> None:
        if not (settings.BASE_DIR / "tests").is_dir():
            raise CommandError("The chaos suite comes with the source, not with an installation.")
        given = [] if options["seed"] is None else ["--seed", str(options["seed"])]
        given += [f"--{name}" for name in ("short", "money", "keep") if options[name]]
        os.chdir(settings.BASE_DIR)
        # A process of its own, since this one has settings already, and with them servers.
        os.execv(sys.executable, [sys.executable, "-m", "orchestrator.chaos", *given])  # noqa: S606
