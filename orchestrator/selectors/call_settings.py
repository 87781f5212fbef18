"""A tenant's settings of its calls to models."""

from orchestrator.models import CallSettings


def call_settings() -> CallSettings:
    """Those of the open tenant; with the defaults, where it has none."""
    return CallSettings.objects.first() or CallSettings()
