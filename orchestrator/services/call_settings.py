"""A tenant's settings of its calls to models."""

from typing import Any

from orchestrator.models import CallSettings


def change_call_settings(**changes: Any) -> CallSettings:
    """Change those of the open tenant that are named."""
    row, _ = CallSettings.objects.select_for_update().get_or_create()
    for name, value in changes.items():
        setattr(row, name, value)
    row.save(update_fields=[*changes, "updated_at"])
    return row
