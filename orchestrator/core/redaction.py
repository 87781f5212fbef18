"""Secrets and personal data in texts, by their form, and what stands in their place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from orchestrator.core.jsonvalue import Json

# The first that fits a place counts.
_PATTERNS: Final[Mapping[str, str]] = {
    "private key": (
        r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[\s\S]*?"
        r"(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)"
    ),
    "token": r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}",
    "key": (
        r"\b(?:sk|pk|rk|xai|gsk|mk|whsec)[-_][\w-]{12,}"
        r"|\b(?:ghp|gho|ghs|ghu|github_pat|glpat|xox[abprs])[-_][\w-]{12,}"
        r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bAIza[\w-]{30,}"
    ),
    "credential": r"(?i:\b(?:bearer|basic)\s+)[\w.~+/=-]{12,}",
    "password": (
        r"(?i:\b(?:password|passwd|secret|api[_-]?key)[\"']?\s{0,9}[:=]\s{0,9}[\"']?)[^\s\"',;]{6,}"
    ),
    "e-mail": r"[\w.+%-]{1,64}@(?:[\w-]{1,63}\.)+[A-Za-z]{2,24}\b",
    "card": r"\b(?:\d[ -]?){12,18}\d\b",
}
_ANY = re.compile(
    "|".join(f"(?P<p{number}>{each})" for number, each in enumerate(_PATTERNS.values()))
)
_NAMES: Final = tuple(_PATTERNS)
_SECRETS: Final = frozenset({"private key", "token", "key", "credential", "password"})
_SECRET_FIELD = re.compile(
    r"(?i)(?:^|[_-])(?:password|passwd|passphrase|secret|token|api[_-]?key|authorization)s?\Z"
)
_DIGITS = re.compile(r"\D")


def redacted(value: Json) -> Json:
    """The same value with marks such as `[e-mail]` in all its texts, names of fields excepted."""
    if isinstance(value, str):
        return _ANY.sub(_mark, value)
    if isinstance(value, list):
        return [redacted(each) for each in value]
    if isinstance(value, dict):
        return {name: redacted(each) for name, each in value.items()}
    return value


def without_secrets(value: Json) -> Json:
    """The same value for people who have to judge it.

    What grants access is struck out, by its form or by the name of its field; personal data is not.
    """
    if isinstance(value, str):
        return _ANY.sub(_mark_secret, value)
    if isinstance(value, list):
        return [without_secrets(each) for each in value]
    if isinstance(value, dict):
        return {
            name: "[secret]" if each and _SECRET_FIELD.search(name) else without_secrets(each)
            for name, each in value.items()
        }
    return value


def _mark_secret(found: re.Match[str]) -> str:
    name = _NAMES[int(str(found.lastgroup)[1:])]
    return f"[{name}]" if name in _SECRETS else found.group()


def _mark(found: re.Match[str]) -> str:
    name = _NAMES[int(str(found.lastgroup)[1:])]
    if name == "card" and not _is_card(found.group()):
        return found.group()
    return f"[{name}]"


def _is_card(text: str) -> bool:
    """Luhn's check, which one in ten other numbers of that length passes too."""
    digits = [int(each) for each in reversed(_DIGITS.sub("", text))]
    doubled = (sum(divmod(2 * each, 10)) for each in digits[1::2])
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0
