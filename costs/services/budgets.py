"""Budgets that nobody has to think of."""

from typing import Any

from django.conf import settings

from costs.models import Budget, BudgetScope, Interval
from tenants.models import Tenant

DEFAULT_NAME = "Default budget"


def give_default_budget(*, tenant: Tenant, **_: Any) -> Budget | None:
    """Limit what a new tenant may spend in a month, in the transaction that makes it.

    The operator's, and hard: the tenant sees it and cannot raise it.
    """
    limit = settings.MUSTER_DEFAULT_BUDGET_NANO
    if limit is None:
        return None
    return Budget.objects.db_manager("system").create(
        tenant=tenant,
        name=DEFAULT_NAME,
        scope=BudgetScope.TENANT,
        interval=Interval.MONTH,
        limit_nano=limit,
        is_hard=True,
        is_operators=True,
    )
