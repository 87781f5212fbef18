"""A tenant's settings of its calls to models."""

from typing import Any

from orchestrator.models import CallSettings


def change_call_settings(**changes: Any) -> CallSettings:
    """Change those of the open tenant that are named."""
    row, _ = CallSettings.objects.select_for_update().get_or_create()
    for name, value in changes.items():
        setattr(row, name, value)
    save_call_settings(row)
    return row


def save_call_settings(row: CallSettings) -> None:
    """Runs that have ended are treated anew, as the settings say now."""
    row.treated_until = row.removed_until = None
    row.save()
