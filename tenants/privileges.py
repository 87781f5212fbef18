"""What the application's roles may do with which table: applied after every migration.

Reading is bounded by row-level security; writing is granted table by table, so that a table
nobody thought of is read-only.
"""

from typing import Any

from django.apps import apps
from django.db import connections, transaction
from django.db.backends.utils import CursorWrapper

from tenants.isolation import APP_ROLE, SYSTEM_ROLE

# Written by the database itself (a trigger) or by the platform, or never changed once written.
READ_ONLY = frozenset({"audit_entry", "tenant_share", "ledger_difference", "spend_minute"})
APPEND_ONLY = frozenset({"cost_entry", "run_event", "agent_message", "call_effect"})
# Written and removed, but never changed.
UNCHANGED = frozenset({"context_value"})
# Belong to no tenant, or are dealt out among them: written through the system's connection alone
# (see `routers`).
OPERATORS_TABLES = frozenset(
    {"tenant", "user_account", "platform_price", "platform_rate_limit", "tenant_share"}
    | {"cluster_load", "worker_process", "ledger_check", "ledger_difference", "spend_minute"}
)
# The system's connection brings secrets under another key, and makes or removes none.
SYSTEM_UPDATES_ONLY = frozenset({"credential"})
_SESSIONS = "django_session"


def grant_after_migrate(using: str, **_: Any) -> None:
    # In one transaction: what is taken back and given again is never missed in between.
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        grant(cursor)


def grant(cursor: CursorWrapper) -> None:
    """Give both roles exactly their rights, whatever they had before."""
    roles = f"{APP_ROLE}, {SYSTEM_ROLE}"
    existing = set(cursor.db.introspection.table_names(cursor))
    cursor.execute(f"GRANT USAGE ON SCHEMA public TO {roles}")
    cursor.execute(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {roles}")
    cursor.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {roles}")
    cursor.execute(f"GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {roles}")
    changed = _tables_of_tenants() - READ_ONLY - APPEND_ONLY | {_SESSIONS}
    for table in sorted(existing & changed):
        cursor.execute(f"GRANT INSERT, UPDATE, DELETE ON {table} TO {roles}")
    for table in sorted(existing & SYSTEM_UPDATES_ONLY):
        cursor.execute(f"REVOKE INSERT, DELETE ON {table} FROM {SYSTEM_ROLE}")
    for table in sorted(existing & UNCHANGED):
        cursor.execute(f"REVOKE UPDATE ON {table} FROM {roles}")
    for table in sorted(existing & APPEND_ONLY):
        cursor.execute(f"GRANT INSERT ON {table} TO {roles}")
    for table in sorted(existing & OPERATORS_TABLES):
        cursor.execute(f"GRANT INSERT, UPDATE, DELETE ON {table} TO {SYSTEM_ROLE}")


def _tables_of_tenants() -> set[str]:
    return {
        model._meta.db_table
        for model in apps.get_models()
        if any(field.name == "tenant" for field in model._meta.fields)
    }
