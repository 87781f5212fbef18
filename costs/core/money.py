"""Money as integer nano-USD.

One cached token can cost 20 nano-USD, so cents and micros are too coarse; integers make sums
exact. Amounts are computed in Decimal and rounded once, at the ledger.
"""

import re
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Context, Decimal

NANO_PER_USD = 10**9

# Explicit, because a thread's default context could have been changed and 28 digits are few
# for a product of three factors. 18 integer digits of nano-USD are all that BIGINT holds.
EXACT = Context(prec=60)
_USD = re.compile(r"\d{1,9}(?:\.\d{1,9})?", re.ASCII)


def nano_from_usd(usd: Decimal) -> int:
    """Nano-USD, rounded half up: what a ledger line records."""
    return _nano(usd, ROUND_HALF_UP)


def round_up(usd: Decimal) -> int:
    """Nano-USD, never less than `usd`: what a worst case or a hold sets aside."""
    return _nano(usd, ROUND_CEILING)


def round_down(usd: Decimal) -> int:
    """Nano-USD, never more than `usd`: what is paid at the least."""
    return _nano(usd, ROUND_FLOOR)


def usd_from_nano(nano: int) -> Decimal:
    return Decimal(nano).scaleb(-9, context=EXACT)


def format_usd(nano: int) -> str:
    """Plain decimal text without exponent or trailing zeros, e.g. `0.0041`."""
    text = f"{usd_from_nano(nano):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def nano_from_text(text: str) -> int:
    """Nano-USD of an amount as people write it, such as `0.50`. ValueError tells what is wrong."""
    if not _USD.fullmatch(text):
        raise ValueError("Write an amount in USD such as 0.50, with at most nine decimals")
    return nano_from_usd(Decimal(text))


def _nano(usd: Decimal, rounding: str) -> int:
    scaled = usd.scaleb(9, context=EXACT)
    return int(scaled.to_integral_value(rounding=rounding, context=EXACT))
