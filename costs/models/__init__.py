from costs.models.alerts import AlertKind, CostAlert
from costs.models.budgets import Budget, BudgetPeriod, BudgetScope, Interval
from costs.models.checks import LedgerCheck, LedgerDifference
from costs.models.ledger import CostEntry, CostKind
from costs.models.prices import PlatformPrice, PriceFields, TenantPrice

__all__ = [
    "AlertKind",
    "Budget",
    "BudgetPeriod",
    "BudgetScope",
    "CostAlert",
    "CostEntry",
    "CostKind",
    "Interval",
    "LedgerCheck",
    "LedgerDifference",
    "PlatformPrice",
    "PriceFields",
    "TenantPrice",
]
