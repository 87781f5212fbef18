"""Importing them registers them."""

from costs.admin import checks, ledger, prices

__all__ = ["checks", "ledger", "prices"]
