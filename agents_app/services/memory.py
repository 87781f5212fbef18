"""Keeping what agents remember. Each statement goes through whatever connection is handed in."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import structlog
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.utils.module_loading import import_string
from psycopg.types.json import Json
from uuid_utils.compat import uuid7

from agents_app.core import values
from agents_app.core.errors import AgentsError, MemoryConflictError, MemoryRefusedError
from agents_app.core.memory import (
    MEMORY_TYPES,
    MOST_FOUND,
    MemoryContent,
    MemoryFaultError,
    MemoryScope,
    Remembered,
    Searcher,
    Wanted,
    checked_content,
    checked_key,
)
from agents_app.models import Agent, MemoryEntry
from tenants.kernel.clock import now
from tenants.scope import current_tenant_id

log = structlog.get_logger(__name__)

Row = Mapping[str, Any]
Fetch = Callable[[str, Sequence[Any]], Sequence[Row]]

MOST_DAYS: Final = 3_650
_LONGEST_QUERY: Final = 10_000
_LONGEST_FAULT: Final = 300
# How long a forgotten entry keeps its place, for calls that are told again.
_KEPT_PLACE: Final = timedelta(days=1)
_KEEP = """
SELECT * FROM muster_remember(%s, %s, %s, %s, %s, %s::json, %s, %s::regconfig, %s, %s, %s, %s, %s)
"""
_FORGET = "SELECT muster_forget(%s, %s, %s, %s, %s) AS is_gone"
_READ = """
SELECT id, scope, key, kind, content, version, updated_at FROM memory_entry
 WHERE tenant_id = %s AND scope = %s AND owner = %s AND key = %s AND fault = ''
   AND (expires_at IS NULL OR expires_at > clock_timestamp())
"""
_SEARCH = "SELECT * FROM muster_search_memory(%s, %s, %s::regconfig, %s, %s, %s, %s)"
_SET_ASIDE = "UPDATE memory_entry SET fault = %s WHERE id = %s AND version = %s RETURNING id"


class MemoryInvalidError(AgentsError):
    """A person cannot have this remembered; `loc` is the field that is at fault."""

    code = "memory_invalid"

    def __init__(self, loc: str, detail: str) -> None:
        super().__init__(loc, detail)
        self.loc = loc
        self.detail = detail

    def __str__(self) -> str:
        return self.detail


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Whose memory it is: of a run by its id, of an agent by its slug."""

    tenant_id: UUID
    scope: MemoryScope
    owner: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is written, and by which call; see `core.memory.Memory.keep`."""

    content: MemoryContent
    call_id: UUID
    key: str | None = None
    run_id: UUID | None = None
    expected_version: int | None = None
    days: int | None = None


def keep(fetch: Fetch, place: Place, change: Change) -> int:
    """The version that the entry has now. Raises MemoryRefusedError."""
    key = checked_key(str(change.call_id) if change.key is None else change.key)
    content, most = checked_content(change.content), settings.MUSTER_MEMORY_ENTRIES
    arguments = [
        *(place.tenant_id, place.scope.value, place.owner, key),
        *(change.content.kind, Json(content), values.clean_text(change.content.text)),
        *(settings.MUSTER_MEMORY_LANGUAGE, change.expected_version, change.call_id),
        *(change.run_id, _lives(place, change), most),
    ]
    (row,) = fetch(_KEEP, arguments)
    match row["verdict"]:
        case "full":
            told = f"this memory is full with {most:,} entries; forget some, or write over one"
            raise MemoryRefusedError(told)
        case "crowded":
            raise MemoryRefusedError(
                "too many entries of this memory were forgotten within a day; write over one"
            )
        case "conflict":
            raise MemoryConflictError(key, row["version"])
    return int(row["version"])


def _lives(place: Place, change: Change) -> timedelta | None:
    days = change.days
    if days is not None and not 1 <= days <= MOST_DAYS:
        raise MemoryRefusedError(f"days are from 1 to {MOST_DAYS:,}")
    if days is None and place.scope is MemoryScope.RUN:
        days = settings.MUSTER_MEMORY_RUN_DAYS
    return None if days is None else timedelta(days=days)


def forget(fetch: Fetch, place: Place, key: str, *, call_id: UUID) -> bool:
    """Whether there was such an entry."""
    where = (place.tenant_id, place.scope.value, place.owner, checked_key(key), call_id)
    return bool(fetch(_FORGET, where)[0]["is_gone"])


def entry_at(fetch: Fetch, place: Place, key: str) -> Remembered | None:
    """The entry; None if there is none, or none that can be read."""
    where = (place.tenant_id, place.scope.value, place.owner, checked_key(key))
    found = readable(fetch, fetch(_READ, where))
    return found[0] if found else None


class FullText:
    """Searches by PostgreSQL's full text: entries with any word of the query, by how well."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch

    def found(self, wanted: Wanted) -> list[Remembered]:
        arguments = [
            *(wanted.tenant_id, values.clean_text(wanted.query)[:_LONGEST_QUERY]),
            settings.MUSTER_MEMORY_LANGUAGE,
            [scope.value for scope, _ in wanted.places],
            [owner for _, owner in wanted.places],
            [*wanted.kinds],
            min(max(wanted.limit, 1), MOST_FOUND),
        ]
        rows = self._fetch(_SEARCH, arguments)
        found = readable(self._fetch, rows)
        if len(found) == len(rows):
            return found
        # Those that were set aside have taken the places of others.
        return readable(self._fetch, self._fetch(_SEARCH, arguments))


def searcher(fetch: Fetch) -> Searcher:
    """What searches here. Raises ImproperlyConfigured where there is no such class."""
    path = settings.MUSTER_MEMORY_SEARCHER
    try:
        made: Searcher = import_string(path)(fetch)
    except ImportError as error:
        raise ImproperlyConfigured(f"MUSTER_MEMORY_SEARCHER: {error}") from error
    return made


def readable(fetch: Fetch, rows: Sequence[Row]) -> list[Remembered]:
    """The entries as what they say they are; what is not, is set aside for people to see.

    A kind that is not known here is left alone: another process may know it.
    """
    found = []
    for row in rows:
        if row["kind"] not in MEMORY_TYPES:
            continue
        try:
            content = MEMORY_TYPES.read(row["kind"], row["content"])
        except MemoryFaultError as error:
            fetch(_SET_ASIDE, (str(error)[:_LONGEST_FAULT], row["id"], row["version"]))
            log.warning("memory_set_aside", entry_id=str(row["id"]), kind=row["kind"])
            continue
        found.append(
            Remembered(
                id=row["id"],
                scope=MemoryScope(row["scope"]),
                key=row["key"],
                content=content,
                version=row["version"],
                updated_at=row["updated_at"],
            )
        )
    return found


def fetch_here(query: str, arguments: Sequence[Any]) -> list[Row]:
    """Through Django's connection, in the open scope."""
    with connection.cursor() as cursor:
        cursor.execute(query, arguments)
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def teach(
    *,
    scope: MemoryScope,
    owner: str = "",
    kind: str,
    content: Mapping[str, Any],
    key: str | None = None,
    days: int | None = None,
) -> MemoryEntry:
    """Have agents know something from a person: an agent by its slug, or all of the tenant.

    Raises MemoryInvalidError.
    """
    _refuse_owner(scope, owner)
    call_id = uuid7()
    place = Place(tenant_id=current_tenant_id(), scope=scope, owner=owner)
    try:
        read = MEMORY_TYPES.read(kind, dict(content))
        keep(fetch_here, place, Change(content=read, call_id=call_id, key=key, days=days))
    except MemoryFaultError as error:
        raise MemoryInvalidError("/content", error.detail) from error
    except MemoryRefusedError as error:
        raise MemoryInvalidError("", error.detail) from error
    kept_at = str(call_id) if key is None else checked_key(key)
    return MemoryEntry.objects.get(scope=scope, owner=owner, key=kept_at)


def _refuse_owner(scope: MemoryScope, owner: str) -> None:
    if scope is MemoryScope.TENANT and owner:
        raise MemoryInvalidError("/owner", "what is the tenant's has no other owner")
    if scope is MemoryScope.AGENT and not Agent.objects.filter(slug=owner).exists():
        raise MemoryInvalidError("/owner", "name a saved agent by its slug")


def delete_entry(entry: MemoryEntry) -> None:
    entry.delete()


def purge_expired(batch: int = 1_000) -> int:
    """Delete what is over, of all tenants; how many went, at most `batch`."""
    rows = MemoryEntry.objects.db_manager("system").filter(expires_at__lt=now() - _KEPT_PLACE)
    oldest = rows.order_by("expires_at").values("pk")[:batch]
    count, _ = rows.filter(pk__in=oldest).delete()
    return count
