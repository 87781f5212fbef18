"""What agents remember, as people see it."""

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.contrib.postgres.search import SearchQuery
from django.db.models import Q, QuerySet

from agents_app.core.errors import AgentsError
from agents_app.models import MemoryEntry
from tenants.kernel.clock import now

MOST_EXPORTED = 10_000


class ExportTooLargeError(AgentsError):
    """More than one answer may hold."""

    code = "export_too_large"
    loc = "/scope"

    def __str__(self) -> str:
        return (
            f"That is more than {MOST_EXPORTED:,} entries; "
            "export by scope, owner or kind, a part at a time"
        )


def memory_entries(
    *, search: str = "", set_aside: bool | None = None, **filters: Any
) -> QuerySet[MemoryEntry]:
    """Of the open tenant. `search` is read as search engines do: quotes, `or`, and `-`."""
    rows = lasting(MemoryEntry.objects.filter(**filters))
    if set_aside is not None:
        rows = rows.exclude(fault="") if set_aside else rows.filter(fault="")
    if search.strip():
        config = settings.MUSTER_MEMORY_LANGUAGE
        rows = rows.filter(words=SearchQuery(search, config=config, search_type="websearch"))
    return rows


def lasting(rows: QuerySet[MemoryEntry]) -> QuerySet[MemoryEntry]:
    """Without those whose time is over, which are about to be deleted."""
    return rows.filter(Q(expires_at__isnull=True) | Q(expires_at__gt=now()))


def export_of(rows: QuerySet[MemoryEntry]) -> list[dict[str, Any]]:
    """All that is known of each entry. Raises ExportTooLargeError."""
    if rows[: MOST_EXPORTED + 1].count() > MOST_EXPORTED:
        raise ExportTooLargeError
    return list(_exported(rows))


def _exported(rows: QuerySet[MemoryEntry]) -> Iterator[dict[str, Any]]:
    """All that is known of each entry."""
    for row in rows.iterator(chunk_size=500):
        yield {
            "id": str(row.id),
            "scope": row.scope,
            "owner": row.owner,
            "key": row.key,
            "kind": row.kind,
            "content": row.content,
            "version": row.version,
            "run_id": row.run_id and str(row.run_id),
            "created_at": row.created_at.isoformat(),
            "updated_at": row.updated_at.isoformat(),
            "expires_at": row.expires_at and row.expires_at.isoformat(),
            "fault": row.fault,
        }
