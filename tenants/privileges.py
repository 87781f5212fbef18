"""What the application's roles may do with which table: applied after every migration."""

from typing import Any

from django.apps import apps
from django.db import connections
from django.db.backends.utils import CursorWrapper

from tenants.isolation import APP_ROLE, SYSTEM_ROLE

# Written by the database itself (a trigger), or never changed once written.
READ_ONLY = ("audit_entry",)
APPEND_ONLY = ("cost_entry", "run_event")


def grant_after_migrate(using: str, **_: Any) -> None:
    with connections[using].cursor() as cursor:
        grant(cursor)


def grant(cursor: CursorWrapper) -> None:
    """Give both roles their rights on all tables, and take back what is append-only."""
    roles = f"{APP_ROLE}, {SYSTEM_ROLE}"
    cursor.execute(f"GRANT USAGE ON SCHEMA public TO {roles}")
    cursor.execute(
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {roles}"
    )
    cursor.execute(f"GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {roles}")
    existing = {model._meta.db_table for model in apps.get_models()}
    for table in existing.intersection(READ_ONLY):
        cursor.execute(f"REVOKE INSERT, UPDATE, DELETE ON {table} FROM {roles}")
    for table in existing.intersection(APPEND_ONLY):
        cursor.execute(f"REVOKE UPDATE, DELETE ON {table} FROM {roles}")
    # Tenants are made and removed by operators only.
    cursor.execute(f"REVOKE INSERT, DELETE ON tenant FROM {APP_ROLE}")
