"""The limit or the budget behind the name of a gate, so that people get from one to the other."""

from uuid import UUID

from costs.models import Budget
from orchestrator.core.state import WaitingReason
from orchestrator.execution.errors import budget_name
from orchestrator.limits.scopes import limits_of_tenant
from orchestrator.selectors.budgets import period_key
from tenants.kernel.clock import now


def limit_behind(reason: str, name: str, *, tenant_id: UUID) -> UUID | None:
    """The row of a limit that bears the name."""
    if reason != WaitingReason.RATE_LIMITED:
        return None
    limits = limits_of_tenant(tenant_id).limits
    return next((each.row_id for each in limits if f"{each.name} {each.tier.name}" == name), None)


def budget_behind(reason: str, name: str) -> UUID | None:
    """The budget whose present period bears the name."""
    if reason != WaitingReason.BUDGET:
        return None
    moment = now()
    rows = Budget.objects.filter(is_enabled=True, name__in=_between_quotes(name))
    return next((row.id for row in rows if _name_of(row, period_key(row, moment)) == name), None)


def _name_of(budget: Budget, period: str) -> str:
    facts = ("scope", "agent", "interval", "name")
    return budget_name({**{fact: getattr(budget, fact) for fact in facts}, "period": period})


def _between_quotes(name: str) -> list[str]:
    first, last = name.find('"'), name.rfind('"')
    return [name[first + 1 : last]] if 0 <= first < last else []
