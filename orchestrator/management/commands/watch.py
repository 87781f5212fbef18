from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand

from orchestrator.management.support import command_scope, usage, watch_to_the_end
from orchestrator.models import Run


class Command(BaseCommand):
    help = "Watch a run live in the terminal, until it has ended. Ctrl-C leaves; the run goes on."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("run", type=UUID, help="The run's id.")
        parser.add_argument("--tenant", required=True, help="The tenant's slug.")
        parser.add_argument("--json", action="store_true", help="End with one JSON line on stdout.")

    def handle(self, *args: Any, **options: Any) -> None:
        run_id = options["run"]
        with command_scope(options["tenant"]) as tenant:
            if not Run.objects.filter(id=run_id).exists():
                raise usage(f"There is no run {run_id} in this tenant.")
        watch_to_the_end(self, tenant, run_id, as_json=options["json"])
