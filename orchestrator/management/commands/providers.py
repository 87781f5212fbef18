from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from rich.console import Console
from rich.table import Table

from agents_app.providers.base import ProviderKind, configuration_problem
from agents_app.providers.check import check
from orchestrator.execution.providers import provider_settings


class Command(BaseCommand):
    help = "Ask every configured provider whether it answers in the right form."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("action", choices=["check"])
        parser.add_argument("names", nargs="*", help="Which to ask; else all configured ones.")
        parser.add_argument("--deadline", type=float, default=10.0, help="Seconds for each.")

    def handle(self, *args: Any, **options: Any) -> None:
        table = Table("Provider", "State", "Model", "Latency", "Detail", box=None)
        known = provider_settings()
        unknown = set(options["names"]) - set(known)
        failed = bool(unknown)
        for name in sorted(unknown):
            table.add_row(name, "unknown", "", "", f"known: {', '.join(known)}")
        for name, settings in known.items():
            if options["names"] and name not in options["names"]:
                continue
            problem = configuration_problem(settings)
            if problem:
                failed = failed or name in options["names"]
                table.add_row(name, "not configured", "", "", problem)
                continue
            if settings.kind is ProviderKind.SIMULATED and not options["names"]:
                continue
            result = check(settings, deadline_seconds=options["deadline"])
            failed = failed or not result.ok
            state = "ok" if result.ok else "failing"
            table.add_row(name, state, result.model, f"{result.latency_ms} ms", result.detail)
        Console().print(table)
        if failed:
            raise SystemExit(1)
