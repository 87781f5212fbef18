"""A summary as flat rows: one form for CSV, the terminal and JSON."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from costs.core.money import format_usd
from costs.core.tables import csv_text
from costs.selectors.reports import Figures, Group, Summary, SummaryRow
from tenants.models import Tenant

_KEYS: Final = {
    Group.DAY: ("day",),
    Group.TENANT: ("tenant_id", "tenant"),
    Group.PROJECT: ("project_id", "project"),
    Group.WORKFLOW: ("workflow_id", "workflow"),
    Group.AGENT: ("agent",),
    Group.PROVIDER: ("provider",),
    Group.MODEL: ("provider", "model"),
    Group.ROLE: ("role",),
}
MONEY: Final = ("cost", "estimated", "in_doubt", "corrections")
COUNTS: Final = ("calls", "failed_calls")
TOKENS: Final = ("input", "cached", "cache_write", "output", "reasoning")


def key_columns(groups: Sequence[Group]) -> list[str]:
    return list(dict.fromkeys(name for group in groups for name in _KEYS[group]))


def header(report: Summary) -> list[str]:
    return [
        *key_columns(report.groups),
        *(f"{name}_usd" for name in MONEY),
        *COUNTS,
        *(f"{name}_tokens" for name in TOKENS),
    ]


def flat(report: Summary, row: SummaryRow) -> list[object]:
    """The values under `header`; money is exact decimal text."""
    keys = (row.key[name] for name in key_columns(report.groups))
    texts = ("" if value is None else _plain(value) for value in keys)
    return [*texts, *figures_of(row.figures)]


def figures_of(figures: Figures) -> list[object]:
    return [
        *(format_usd(getattr(figures, name)) for name in MONEY),
        *(getattr(figures, name) for name in (*COUNTS, *TOKENS)),
    ]


def _plain(value: object) -> object:
    return value if isinstance(value, str | int) else str(value)


def csv_of(report: Summary) -> str:
    return csv_text(header(report), (flat(report, row) for row in report.rows))


def summary_json(report: Summary, *, tenant: Tenant | None) -> dict[str, Any]:
    # Plain values: ten thousand rows would take serializers seconds.
    return {
        "tenant": None if tenant is None else {"id": str(tenant.id), "slug": tenant.slug},
        "from": _iso(report.since),
        "to": _iso(report.until),
        "tz": report.zone.key,
        "group_by": [str(group) for group in report.groups],
        "rows": [_row_json(report, row) for row in report.rows],
        "total": _figures_json(report.total),
    }


def _row_json(report: Summary, row: SummaryRow) -> dict[str, Any]:
    keys = {name: row.key[name] for name in key_columns(report.groups)}
    texts = {name: str(value) for name, value in keys.items()}
    return {**texts, **_figures_json(row.figures)}


def _figures_json(figures: Figures) -> dict[str, Any]:
    return {
        **{f"{name}_usd": format_usd(getattr(figures, name)) for name in MONEY},
        **{name: getattr(figures, name) for name in COUNTS},
        "tokens": {name: getattr(figures, name) for name in TOKENS},
    }


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
