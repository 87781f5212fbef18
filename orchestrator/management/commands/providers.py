from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.core.management.base import BaseCommand
from rich.console import Console
from rich.table import Table

from agents_app.providers.base import ProviderKind, configuration_problem
from agents_app.providers.check import CheckResult, check
from orchestrator.execution.providers import provider_settings
from orchestrator.management.support import command_scope
from orchestrator.selectors.providers import providers
from orchestrator.services import provider_checks as checks
from tenants.models import ProviderCheck
from tenants.services.errors import CheckTooSoonError


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    name: str
    state: str
    detail: str
    model: str = ""
    latency_ms: int | None = None
    limits: str = ""

    @property
    def cells(self) -> tuple[str, ...]:
        latency = "" if self.latency_ms is None else f"{self.latency_ms} ms"
        return (self.name, self.state, self.model, latency, self.limits, self.detail)


class Command(BaseCommand):
    help = "Ask providers whether they answer in the right form: the operator's, or a tenant's."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("action", choices=["check"])
        parser.add_argument("names", nargs="*", help="Which to ask; else all configured ones.")
        parser.add_argument("--tenant", help="As the tenant of this slug, with its credentials.")
        parser.add_argument("--deadline", type=float, default=10.0, help="Seconds for each.")

    def handle(self, *args: Any, **options: Any) -> None:
        names, known = options["names"], provider_settings()
        lines = [
            _Line(name=name, state="unknown", detail=f"known: {', '.join(known)}")
            for name in sorted(set(names) - set(known))
        ]
        if options["tenant"]:
            lines += _of_tenant(options["tenant"], names, options["deadline"])
        else:
            lines += _of_platform(names, options["deadline"])
        table = Table("Provider", "State", "Model", "Latency", "Limits left", "Detail", box=None)
        for line in lines:
            table.add_row(*line.cells)
        Console().print(table)
        asked_for = [line for line in lines if line.name in names or line.state == "failing"]
        if any(line.state != "ok" for line in asked_for):
            raise SystemExit(1)


def _of_platform(names: list[str], deadline: float) -> Iterator[_Line]:
    """With the operator's keys."""
    for name, settings in provider_settings().items():
        if names and name not in names:
            continue
        problem = configuration_problem(settings)
        if problem:
            yield _Line(name=name, state="not configured", detail=problem)
        elif names or settings.kind is not ProviderKind.SIMULATED:
            yield _line(name, check(settings, deadline_seconds=deadline))


def _of_tenant(slug: str, names: list[str], deadline: float) -> Iterator[_Line]:
    """As the tenant's runs would call them; the results are kept, as those of its own checks."""
    with command_scope(slug) as tenant:
        listed = [facts for facts in providers() if not names or facts.name in names]
    for facts in listed:
        if facts.problem:
            yield _Line(name=facts.name, state="not configured", detail=facts.problem)
            continue
        if facts.name == ProviderKind.SIMULATED and not names:
            continue
        try:
            found = checks.checked(
                tenant.id,
                lambda name=facts.name: checks.begin_provider_check(name),  # type: ignore[misc]
                deadline_seconds=deadline,
            )
        except CheckTooSoonError as error:
            yield _Line(name=facts.name, state="skipped", detail=str(error))
            continue
        yield _line(facts.name, found)


def _line(name: str, found: CheckResult | ProviderCheck) -> _Line:
    left = (f"{what}: {value}" for what, value in found.limits.items() if "remaining" in what)
    return _Line(
        name=name,
        state="ok" if found.ok else "failing",
        detail=found.detail,
        model=found.model,
        latency_ms=found.latency_ms,
        limits=", ".join(left),
    )
