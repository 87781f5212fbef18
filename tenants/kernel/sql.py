"""Functions in SQL live in `sql/*.sql` beside their app; migrations load them from there."""

from pathlib import Path

from django.db.migrations import RunSQL


def run_sql_file(migration_file: str, name: str, *, reverse: str) -> RunSQL:
    """An operation that runs `<app>/sql/<name>` next to the migration's folder."""
    path = Path(migration_file).parent.parent / "sql" / name
    return RunSQL(path.read_text(encoding="utf-8"), reverse)
