import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from rich.console import Console
from rich.table import Table

from costs.core.money import format_usd
from orchestrator.management.support import EXIT_FAILED
from orchestrator.services.ledger_checks import Checked, check_ledger

_COUNTS = ("lines", "calls", "agent_runs", "runs", "periods")


class Command(BaseCommand):
    help = (
        "Compare the ledger with calls, agent runs and runs, of all tenants. Exit 1: they differ."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="The result as JSON on stdout.")

    def handle(self, *args: Any, **options: Any) -> None:
        checked = check_ledger()
        if options["json"]:
            self.stdout.write(json.dumps(_as_json(checked)))
        else:
            self._show(checked)
        if not checked.agrees:
            raise SystemExit(EXIT_FAILED)

    def _show(self, checked: Checked) -> None:
        sizes = ", ".join(f"{checked.check[name]:,} {name.replace('_', ' ')}" for name in _COUNTS)
        if checked.agrees:
            self.stdout.write(f"All agree: {sizes}.")
            return
        self.stderr.write(f"{checked.check['difference_count']:,} differences in {sizes}.")
        table = Table("Rule", "Tenant", "Object", "Expected", "Found", "Detail", box=None)
        for row in checked.differences:
            table.add_row(
                row["rule"].replace("_", " "),
                str(row["tenant_id"]),
                str(row["object_id"]),
                format_usd(row["expected"]),
                format_usd(row["found"]),
                row["detail"],
            )
        Console().print(table)


def _as_json(checked: Checked) -> dict[str, Any]:
    return {
        "id": str(checked.check["id"]),
        "agrees": checked.agrees,
        "differences": checked.check["difference_count"],
        **{name: checked.check[name] for name in _COUNTS},
        "largest": [
            {
                "rule": row["rule"],
                "tenant_id": str(row["tenant_id"]),
                "object_id": str(row["object_id"]),
                "run_id": str(row["run_id"]),
                "expected_usd": format_usd(row["expected"]),
                "found_usd": format_usd(row["found"]),
                "detail": row["detail"],
            }
            for row in checked.differences
        ],
    }
