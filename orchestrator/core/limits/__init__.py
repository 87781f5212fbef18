"""Limits on calls: what they are, what a call says of itself, and the model of the decisions."""

from orchestrator.core.limits.facts import COUNTED, Admission, CallFacts, Unit
from orchestrator.core.limits.tiers import Counting, LimitedScope, Period, Tier

__all__ = [
    "COUNTED",
    "Admission",
    "CallFacts",
    "Counting",
    "LimitedScope",
    "Period",
    "Tier",
    "Unit",
]
