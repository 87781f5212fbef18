"""How the months of budgets will end, of many budgets at once."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db.models import OuterRef, Subquery, Sum

from costs.core.outlook import Forecast, forecast
from costs.models import Budget, BudgetScope, Interval
from costs.selectors.outlook import with_days
from costs.selectors.reports import lines_of_tenant

# By scope, the column of the ledger that tells whose a line is, and that of the budget.
_COLUMNS: Final = {
    BudgetScope.TENANT: ("tenant_id", "tenant_id"),
    BudgetScope.PROJECT: ("project_id", "scope_id"),
    BudgetScope.WORKFLOW: ("workflow_id", "scope_id"),
    BudgetScope.AGENT: ("agent", "agent"),
}


def forecasts(budgets: Iterable[Budget], *, moment: datetime) -> dict[UUID, Forecast]:
    """Of those that count months, by their ids; the caps of runs have none.

    What their scopes cost, since the budget itself may be younger. Two queries for each scope in
    each time zone, however many budgets there are.
    """
    alike: dict[tuple[str, str], list[Budget]] = defaultdict(list)
    for budget in budgets:
        if budget.interval == Interval.MONTH and budget.scope in _COLUMNS:
            alike[budget.scope, budget.time_zone].append(budget)
    return {
        budget_id: told for group in alike.values() for budget_id, told in _foretold(group, moment)
    }


def _foretold(budgets: Sequence[Budget], moment: datetime) -> Iterator[tuple[UUID, Forecast]]:
    """Of budgets of one scope and time zone."""
    line_column, budget_column = _COLUMNS[BudgetScope(budgets[0].scope)]
    zone = ZoneInfo(budgets[0].time_zone)
    today = moment.astimezone(zone).date()
    spent: dict[Any, dict[date, int]] = defaultdict(dict)
    lines = lines_of_tenant().filter(
        **{f"{line_column}__in": {getattr(budget, budget_column) for budget in budgets}}
    )
    by_day = with_days(lines, today=today, zone=zone).values(line_column, "day")
    for row in by_day.annotate(cost=Sum("amount_nano")):
        spent[row[line_column]][row["day"]] = int(row["cost"])
    firsts = _first_lines(budgets, line_column, budget_column)
    for budget in budgets:
        first = firsts[budget.id]
        since = first.astimezone(zone).date() if first else None
        yield budget.id, forecast(spent[getattr(budget, budget_column)], today=today, since=since)


def _first_lines(
    budgets: Sequence[Budget], line_column: str, budget_column: str
) -> dict[UUID, datetime | None]:
    """When each scope's first line was held: one look into the index each, not a sum over all."""
    lines = lines_of_tenant().filter(**{line_column: OuterRef(budget_column)}).order_by("held_at")
    rows = Budget.objects.filter(id__in=[budget.id for budget in budgets])
    return dict(rows.values_list("id", Subquery(lines.values("held_at")[:1])))
