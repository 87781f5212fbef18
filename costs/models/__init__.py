from costs.models.alerts import AlertKind, CostAlert
from costs.models.budgets import (
    MOST_PERCENT,
    MOST_THRESHOLDS,
    Budget,
    BudgetPeriod,
    BudgetScope,
    Interval,
)
from costs.models.checks import LedgerCheck, LedgerDifference
from costs.models.ledger import CostEntry, CostKind
from costs.models.prices import PlatformPrice, PriceFields, TenantPrice

__all__ = [
    "MOST_PERCENT",
    "MOST_THRESHOLDS",
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
