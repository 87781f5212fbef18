"""The limiter: one atomic look at all limits of a call, on the clock of Redis."""

from orchestrator.limits.limiter import Limits
from orchestrator.limits.process import limits

__all__ = ["Limits", "limits"]
