"""Budgets as people look at them: with the period under way, and how it will end."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db.models import Q, QuerySet

from costs.core.outlook import Forecast
from costs.core.periods import day_start, month_end, month_start
from costs.models import Budget, BudgetPeriod, BudgetScope, CostAlert, Interval
from costs.selectors.forecasts import forecasts
from orchestrator.models import Run, Workflow
from tenants.kernel.clock import now
from tenants.models import Project
from tenants.principals import Principal

# From this share of a limit on, a threshold that was reached is told in another colour.
NEAR: Final = 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """The one under way. `starts_at` and `ends_at` are None for a budget for good.

    `left` is what the next calls may cost at most; `forecast` what will have been spent at the end
    of a month, None where nobody can tell.
    """

    key: str
    starts_at: datetime | None
    ends_at: datetime | None
    limit: int
    spent: int
    held: int
    overrun: int
    is_refusing: bool
    forecast: int | None

    @property
    def left(self) -> int:
        return max(0, self.limit - self.spent - self.held)

    def share(self, amount: int) -> float:
        """Of the limit, for a bar; never above 1."""
        return min(1.0, amount / self.limit) if self.limit else float(amount > 0)

    @property
    def spent_share(self) -> float:
        return self.share(self.spent)

    @property
    def held_share(self) -> float:
        return min(self.share(self.held), 1 - self.spent_share)

    @property
    def used(self) -> float:
        """Of the limit, above 1 where more was spent."""
        return self.spent / self.limit if self.limit else float(self.spent > 0)

    @property
    def ends_above(self) -> bool:
        """Whether the month is expected to end above the limit."""
        return self.forecast is not None and self.forecast > self.limit

    @property
    def forecast_share(self) -> float | None:
        return None if self.forecast is None else self.share(self.forecast)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownBudget:
    budget: Budget
    what: str  # what it is for, in people's words
    period: Period

    @property
    def ends(self) -> datetime | None:
        """As the clocks of its time zone say; naive, so that pages do not move it to another."""
        end, zone = self.period.ends_at, ZoneInfo(self.budget.time_zone)
        return end.astimezone(zone).replace(tzinfo=None) if end else None

    @property
    def spent_width(self) -> str:
        return _percent(self.period.spent_share)

    @property
    def held_width(self) -> str:
        return _percent(self.period.held_share)

    @property
    def forecast_width(self) -> str | None:
        share = self.period.forecast_share
        # The mark itself has to stay on the bar.
        return None if share is None else _percent(min(share, 0.992))

    @property
    def reached(self) -> int | None:
        """The highest threshold that what is spent has reached."""
        spent = 100 * self.period.used
        return max((one for one in self.budget.thresholds if one <= spent), default=None)

    @property
    def percent(self) -> str:
        return f"{int(100 * self.period.used):,} %"

    @property
    def fill(self) -> str:
        if self.period.is_refusing or not self.period.left:
            return "full"
        return "near" if self.reached is not None and self.period.used >= NEAR else "spent"

    @property
    def marks(self) -> list[int]:
        """Thresholds that lie on the bar."""
        return [percent for percent in self.budget.thresholds if 0 < percent <= 100]


def _percent(share: float) -> str:
    return f"{share * 100:.2f}"


def budgets_of(principal: Principal) -> QuerySet[Budget]:
    """The tenant's; for a key narrowed to a project, those of it and of its workflows."""
    budgets = Budget.objects.all()
    project = principal.project_id
    if project is None:
        return budgets
    workflows = Workflow.objects.filter(project_id=project).values("id")
    runs = Run.objects.filter(project_id=project).values("id")
    return budgets.filter(
        Q(scope=BudgetScope.PROJECT, scope_id=project)
        | Q(scope=BudgetScope.WORKFLOW, scope_id__in=workflows)
        | Q(scope=BudgetScope.RUN, scope_id__in=runs)
    )


def without_caps(budgets: QuerySet[Budget]) -> QuerySet[Budget]:
    """Without those that came with a run, of which there are as many as runs."""
    return budgets.exclude(scope=BudgetScope.RUN)


def refusing_budgets(run: Run) -> list[ShownBudget]:
    """The hard budgets over this run that are exhausted now; none once they have been raised."""
    agents = run.agent_runs.order_by().values("agent").distinct()
    over = (
        Q(scope=BudgetScope.TENANT)
        | Q(scope=BudgetScope.PROJECT, scope_id=run.project_id)
        | Q(scope=BudgetScope.WORKFLOW, scope_id=run.workflow_id)
        | Q(scope=BudgetScope.RUN, scope_id__in=run.cap_runs)
        | Q(scope=BudgetScope.AGENT, agent__in=agents)
    )
    budgets = Budget.objects.filter(over, is_enabled=True, is_hard=True)
    return [row for row in shown(budgets) if row.period.is_refusing]


def alerts_of(principal: Principal) -> QuerySet[CostAlert]:
    """The tenant's; for a key narrowed to a project, those of its budgets and of its runs."""
    alerts = CostAlert.objects.all()
    project = principal.project_id
    if project is None:
        return alerts
    budgets = budgets_of(principal).values("id")
    runs = Run.objects.filter(project_id=project).values("id")
    return alerts.filter(Q(budget_id__in=budgets) | Q(run_id__in=runs))


def shown(budgets: Iterable[Budget]) -> list[ShownBudget]:
    listed = list(budgets)
    moment = now()
    rows = _rows(listed, moment)
    names, told = _names(listed), forecasts(listed, moment=moment)
    return [
        ShownBudget(
            budget=budget,
            what=_what(budget, names),
            period=_period(budget, rows.get(budget.id), moment, told.get(budget.id)),
        )
        for budget in listed
    ]


def nearest_to_their_limits(principal: Principal, *, most: int) -> list[ShownBudget]:
    """The budgets of whose limits the largest parts are spent or held, caps of runs left out."""
    budgets = list(without_caps(budgets_of(principal)).filter(is_enabled=True))
    rows = _rows(budgets, now())
    return shown(sorted(budgets, key=lambda each: -_gone(each, rows.get(each.id)))[:most])


def _gone(budget: Budget, row: BudgetPeriod | None) -> float:
    """As a part of the limit, also beyond it; a limit of 0 is reached at once."""
    if not budget.limit_nano:
        return math.inf
    return (row.spent_nano + row.held_nano) / budget.limit_nano if row else 0.0


def _rows(budgets: Iterable[Budget], moment: datetime) -> dict[UUID, BudgetPeriod]:
    """The periods under way, by budget; those in which nothing was held have no row."""
    keys = {budget.id: period_key(budget, moment) for budget in budgets}
    rows = BudgetPeriod.objects.filter(budget__in=keys, key__in=set(keys.values()))
    return {row.budget_id: row for row in rows if row.key == keys[row.budget_id]}


def period_key(budget: Budget, moment: datetime) -> str:
    """As `muster_period_key` has it."""
    day = moment.astimezone(ZoneInfo(budget.time_zone)).date()
    match budget.interval:
        case Interval.DAY:
            return f"{day:%Y-%m-%d}"
        case Interval.MONTH:
            return f"{day:%Y-%m}"
    return "total"


def _period(
    budget: Budget, row: BudgetPeriod | None, moment: datetime, told: Forecast | None
) -> Period:
    zone = ZoneInfo(budget.time_zone)
    first, end = _span(budget, moment.astimezone(zone).date())
    spent = row.spent_nano if row else 0
    return Period(
        key=period_key(budget, moment),
        starts_at=day_start(first, zone) if first else None,
        ends_at=day_start(end, zone) if end else None,
        limit=budget.limit_nano,
        spent=spent,
        held=row.held_nano if row else 0,
        overrun=row.overrun_nano if row else 0,
        is_refusing=bool(row and row.is_hard and row.refused_at),
        forecast=_forecast(spent, told),
    )


def _span(budget: Budget, today: date) -> tuple[date | None, date | None]:
    match budget.interval:
        case Interval.DAY:
            return today, today + timedelta(days=1)
        case Interval.MONTH:
            return month_start(today), month_end(today)
    return None, None


def _forecast(spent: int, told: Forecast | None) -> int | None:
    """What it has spent, and what the ledger lets expect for the rest of the month."""
    if told is None or told.nano is None:
        return None
    return spent + told.nano - told.spent_nano


def _names(budgets: Iterable[Budget]) -> Mapping[UUID, str]:
    ids = {budget.scope_id for budget in budgets if budget.scope_id}
    if not ids:
        return {}
    projects = Project.objects.filter(id__in=ids).values_list("id", "slug")
    workflows = Workflow.objects.filter(id__in=ids).values_list("id", "name")
    return {**dict(projects), **dict(workflows)}


def _what(budget: Budget, names: Mapping[UUID, str]) -> str:
    if budget.scope == BudgetScope.TENANT:
        return "the whole tenant"
    name = budget.agent or names.get(budget.scope_id, str(budget.scope_id))  # type: ignore[arg-type]
    return f"{budget.scope} {name}"
