import json
from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand

from costs.core.money import nano_from_text
from orchestrator.management.support import (
    command_scope,
    project_by_slug,
    readable_errors,
    usage,
    watch_to_the_end,
)
from orchestrator.models import Run
from orchestrator.services.objectives import start_objective
from tenants.models import Tenant
from tenants.scope import tenant_scope


class Command(BaseCommand):
    help = "Have an objective in plain words planned and carried out, live in the terminal."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("objective", help="What is to be done.")
        parser.add_argument("--tenant", required=True, help="The tenant's slug.")
        parser.add_argument("--project", help="The project's slug; not needed if there is one.")
        parser.add_argument("--approve", action="store_true", help="Ask a person before it begins.")
        parser.add_argument(
            "--approve-above", metavar="USD", help="Ask only where it may cost more."
        )
        parser.add_argument("--template", help="The set of prompts to plan by.")
        parser.add_argument("--max-cost", metavar="USD", help="What the run may cost.")
        parser.add_argument("--json", action="store_true", help="End with one JSON line on stdout.")
        parser.add_argument("--detach", action="store_true", help="Print the run's id and leave.")

    def handle(self, *args: Any, **options: Any) -> None:
        with readable_errors("objective"), command_scope(options["tenant"]) as tenant:
            run = start_objective(
                project=project_by_slug(options["project"]),
                objective=options["objective"],
                approve=options["approve"],
                approve_above_nano=_amount(options["approve_above"], "--approve-above"),
                template=options["template"],
                max_cost_nano=_amount(options["max_cost"], "--max-cost"),
            )
        if options["detach"]:
            self.stdout.write(str(run.id))
            return
        try:
            watch_to_the_end(self, tenant, run.id, as_json=options["json"])
        finally:
            if not options["json"]:
                self._tell_answer(tenant, run.id)

    def _tell_answer(self, tenant: Tenant, run_id: UUID) -> None:
        with tenant_scope(tenant.id):
            output = Run.objects.values_list("output", flat=True).get(id=run_id)
        answer = output.get("answer") if isinstance(output, dict) else None
        if answer is not None:
            told = answer if isinstance(answer, str) else json.dumps(answer, indent=2)
            self.stdout.write(told)


def _amount(text: str | None, option: str) -> int | None:
    try:
        return None if text is None else nano_from_text(text)
    except ValueError as error:
        raise usage(f"{option} {text!r}: {error}.") from None
