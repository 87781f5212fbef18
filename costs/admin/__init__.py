"""Importing them registers them."""

from costs.admin import ledger, prices

__all__ = ["ledger", "prices"]
