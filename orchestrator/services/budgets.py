"""Making and changing budgets. What they hold and have spent is the engine's to write."""

from collections.abc import Mapping
from typing import Any, ClassVar, Final
from uuid import UUID

from django.db import DataError, IntegrityError, connection, transaction

from agents_app.models import Agent
from costs.core.money import format_usd
from costs.models import Budget, BudgetScope
from orchestrator.models import Workflow
from tenants.kernel.errors import PlatformError
from tenants.models import Project
from tenants.services.errors import AlreadyExistsError, NotFoundError

# Fields that may change; what a budget is for, and its period, stay.
CHANGEABLE: Final = ("name", "limit_nano", "is_hard", "thresholds", "is_enabled")


class RunBudgetError(PlatformError):
    """A run's cap comes with the run."""

    code: ClassVar[str] = "run_budget"
    loc: ClassVar[str] = "/scope"

    def __str__(self) -> str:
        return "A run is given its budget as it starts: `max_cost_usd`. Then its limit may change."


class TimeZoneUnknownError(PlatformError):
    code: ClassVar[str] = "time_zone"
    loc: ClassVar[str] = "/time_zone"

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"The database knows no time zone {self.name!r}; write one such as Europe/Berlin."


class OperatorsBudgetError(PlatformError):
    code: ClassVar[str] = "operators_budget"

    def __str__(self) -> str:
        return "This budget was set by the operator of the platform, who alone may change it."


def create_budget(*, scope: str, is_operators: bool = False, **fields: Any) -> Budget:
    """A budget of the open tenant; it counts calls from now on.

    Raises NotFoundError for a scope that names nothing here, AlreadyExistsError where the same has
    a budget for the same period, and TimeZoneUnknownError.
    """
    if scope == BudgetScope.RUN:
        raise RunBudgetError
    _refuse_unknown(scope, fields.get("scope_id"), fields.get("agent", ""))
    budget = Budget(scope=scope, is_operators=is_operators, **fields)
    _refuse_unknown_zone(budget.time_zone)
    try:
        with transaction.atomic():
            budget.save(force_insert=True)
    except IntegrityError as error:
        if "budget_once_per_scope_and_interval" not in str(error):
            raise
        period = budget.get_interval_display().lower()
        name = f"of this {scope} ({period})"
        raise AlreadyExistsError("budget", name, "/interval") from error
    return budget


def change_budget(budget: Budget, *, by_operator: bool, changes: Mapping[str, Any]) -> Budget:
    """Change name, limit, strictness, thresholds, or switch it off and on.

    A limit may go below what is spent and held: then nothing more is let through. What it was
    raised to holds for the very next call.
    """
    _refuse_operators(budget, by_operator=by_operator)
    for field in CHANGEABLE:
        if field in changes:
            setattr(budget, field, changes[field])
    budget.save(update_fields=[*(f for f in CHANGEABLE if f in changes), "updated_at"])
    return budget


def delete_budget(budget: Budget, *, by_operator: bool) -> None:
    """Delete it with its periods. Calls that it holds end as if it had never been."""
    _refuse_operators(budget, by_operator=by_operator)
    budget.delete()


def lowered_below(budget: Budget, gone_nano: int) -> str:
    """What to tell whoever sets a limit below what is gone already; empty if it is not."""
    if budget.limit_nano >= gone_nano:
        return ""
    return (
        f"{format_usd(gone_nano)} USD are spent or held already, above the limit of "
        f"{format_usd(budget.limit_nano)} USD: nothing more is let through in this period."
    )


def _refuse_unknown_zone(name: str) -> None:
    """The database reckons periods: what it does not know would break everybody's alerts."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT now() AT TIME ZONE %s", [name])
    except DataError:
        raise TimeZoneUnknownError(name) from None


def _refuse_operators(budget: Budget, *, by_operator: bool) -> None:
    if budget.is_operators and not by_operator:
        raise OperatorsBudgetError


def _refuse_unknown(scope: str, scope_id: UUID | None, agent: str) -> None:
    models: Mapping[str, Any] = {BudgetScope.PROJECT: Project, BudgetScope.WORKFLOW: Workflow}
    if scope == BudgetScope.AGENT and not Agent.objects.filter(slug=agent).exists():
        raise NotFoundError("agent", agent, "/agent")
    model = models.get(scope)
    if model is not None and not model.objects.filter(id=scope_id).exists():
        raise NotFoundError(scope, str(scope_id or ""), "/scope_id")
