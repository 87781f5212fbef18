from typing import Any

from django.db.models import Model

from tenants.privileges import OPERATORS_TABLES


class OwnerMigrates:
    """Tables change through the owner's connection only; the application cannot.

    Nor can it write what belongs to no tenant (accounts, log-in included): that goes through
    the system's connection.
    """

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return db == "owner"

    def db_for_write(self, model: type[Model], **hints: Any) -> str | None:
        return "system" if model._meta.db_table in OPERATORS_TABLES else None
