"""The workflows that ship ready-made."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from django.conf import settings

from orchestrator.core.blueprint import Blueprint, blueprint_of

FOLDER: Final[Path] = settings.BASE_DIR / "templates" / "workflows"


@cache
def blueprints() -> Mapping[str, Blueprint]:
    """All of them by name, those of one module together; they change with the code alone."""
    found = [blueprint_of(path.read_text("utf-8")) for path in FOLDER.glob("*.yaml")]
    ordered = sorted(found, key=lambda each: (each.module.lower(), each.name))
    return {each.name: each for each in ordered}
