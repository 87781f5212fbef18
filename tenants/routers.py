from typing import Any


class OwnerMigrates:
    """Tables change through the owner's connection only; the application cannot."""

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return db == "owner"
