import json
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.core.management.base import BaseCommand
from django.db.models import QuerySet
from rich.console import Console
from rich.table import Table

from costs.core.money import format_usd
from costs.core.periods import day_start, month_start, zone_or_none
from costs.models import Budget, CostEntry
from costs.selectors.outlook import Outlook, outlook
from costs.selectors.report_table import csv_of, figures_of, flat, header, key_columns, summary_json
from costs.selectors.reports import Group, Summary, lines_of_all, lines_of_tenant, summary
from orchestrator.management.support import command_scope, readable_errors, usage
from orchestrator.selectors.budgets import ShownBudget, shown, without_caps
from tenants.kernel.clock import now
from tenants.models import Tenant


class Command(BaseCommand):
    help = "What was spent, from the ledger: a table, CSV or JSON on stdout."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("action", choices=["report"])
        whose = parser.add_mutually_exclusive_group(required=True)
        whose.add_argument("--tenant", help="The slug of a tenant.")
        whose.add_argument("--all", action="store_true", help="Every tenant's, as the operator.")
        parser.add_argument(
            "--from", dest="first", help="First day; the month's first unless told."
        )
        parser.add_argument("--through", dest="last", help="Last day; else today.")
        parser.add_argument("--tz", default="UTC", help="Whose days, such as Europe/Berlin.")
        parser.add_argument("--by", default="day", help=f"Some of {', '.join(Group)}: day,model.")
        parser.add_argument("--format", choices=["table", "csv", "json"], default="table")

    def handle(self, *args: Any, **options: Any) -> None:
        zone = zone_or_none(options["tz"])
        if zone is None:
            raise usage(f"{options['tz']!r} is no time zone; write one such as Europe/Berlin.")
        groups = _groups(options["by"])
        with _ledger(options["tenant"]) as (tenant, lines), readable_errors("costs report"):
            report = summary(lines, groups=groups, zone=zone, **_span(options, zone))
            told = outlook(lines, moment=now(), zone=zone)
            self._write(options["format"], report, told, tenant)
            if tenant is not None and options["format"] == "table":
                self._show_budgets(shown(without_caps(Budget.objects.all())))

    def _show_budgets(self, budgets: list[ShownBudget]) -> None:
        table = Table("Budget", "For", "Period", "Spent", "Held", "Left", "Limit", box=None)
        for row in budgets:
            period = row.period
            amounts = (period.spent, period.held, period.left, period.limit)
            table.add_row(row.budget.name, row.what, period.key, *map(format_usd, amounts))
        if budgets:
            Console().print(table)

    def _write(self, form: str, report: Summary, told: Outlook, tenant: Tenant | None) -> None:
        if form == "csv":
            self.stdout.write(csv_of(report), ending="")
        elif form == "json":
            document = {
                **summary_json(report, tenant=tenant),
                "month": _month_json(told),
                "budgets": _budgets_json(tenant),
            }
            self.stdout.write(json.dumps(document))
        else:
            Console().print(_table(report))
            self.stderr.write(_month_text(told), style_func=str)


@contextmanager
def _ledger(slug: str | None) -> Iterator[tuple[Tenant | None, QuerySet[CostEntry]]]:
    if slug is None:
        yield None, lines_of_all()
        return
    with command_scope(slug) as tenant:
        yield tenant, lines_of_tenant()


def _groups(text: str) -> Sequence[Group]:
    try:
        return [Group(name.strip()) for name in text.split(",")]
    except ValueError as error:
        raise usage(f"{error}; known groups are {', '.join(Group)}.") from None


def _span(options: dict[str, Any], zone: ZoneInfo) -> dict[str, Any]:
    today = now().astimezone(zone).date()
    first = _day(options["first"], month_start(today))
    last = _day(options["last"], today)
    if last < first:
        raise usage(f"The last day, {last}, lies before the first, {first}.")
    if last == date.max:
        raise usage(f"No day comes after the last one, {last}; choose an earlier one.")
    end = last + timedelta(days=1)
    return {"since": day_start(first, zone), "until": day_start(end, zone)}


def _day(text: str | None, usual: date) -> date:
    try:
        return usual if text is None else date.fromisoformat(text)
    except ValueError:
        raise usage(f"{text!r} is no day; write one such as 2026-11-01.") from None


def _table(report: Summary) -> Table:
    keys = key_columns(report.groups)
    table = Table(box=None, show_footer=True)
    sums = figures_of(report.total)
    for index, name in enumerate(header(report)):
        is_key = index < len(keys)
        footer = ("All" if index == 0 else "") if is_key else str(sums[index - len(keys)])
        title = name.replace("_", " ").replace("usd", "USD")
        table.add_column(title, footer, justify="left" if is_key else "right", overflow="fold")
    for row in report.rows:
        table.add_row(*(str(value) for value in flat(report, row)))
    return table


def _month_json(told: Outlook) -> dict[str, Any]:
    foretold = told.forecast.nano
    return {
        "month": f"{told.month:%Y-%m}",
        "spent_usd": format_usd(told.forecast.spent_nano),
        "forecast_usd": None if foretold is None else format_usd(foretold),
        "today_is_unusual": told.comparison.is_unusual,
    }


def _budgets_json(tenant: Tenant | None) -> list[dict[str, Any]]:
    """None where all tenants are summed up: each has its own."""
    rows = shown(without_caps(Budget.objects.all())) if tenant else []
    return [
        {
            "name": row.budget.name,
            "for": row.what,
            "period": row.period.key,
            "spent_usd": format_usd(row.period.spent),
            "held_usd": format_usd(row.period.held),
            "left_usd": format_usd(row.period.left),
            "limit_usd": format_usd(row.period.limit),
        }
        for row in rows
    ]


def _month_text(told: Outlook) -> str:
    spent = f"{told.month:%B}: {format_usd(told.forecast.spent_nano)} USD so far"
    if told.forecast.nano is None:
        return f"{spent}; too few days to foretell the rest."
    return f"{spent}, {format_usd(told.forecast.nano)} USD by its end as it looks now."
