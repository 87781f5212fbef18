"""A run's history, in the order of its ids and never with a gap."""

import threading
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db import connection
from django.db.models import QuerySet

from orchestrator.core.state import TERMINAL_RUN
from orchestrator.models import Run, RunEvent
from tenants.scope import tenant_scope

# Whoever has taken an id holds this lock on the table until the end of its transaction.
_WRITERS = """
SELECT virtualtransaction FROM pg_locks
 WHERE locktype = 'relation' AND relation = 'run_event'::regclass
   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND mode = 'RowExclusiveLock' AND granted AND pid IS DISTINCT FROM pg_backend_pid()
"""
_LAST_ID = "SELECT coalesce(pg_sequence_last_value('run_event_id_seq'), 0)"
_BEHIND = """
SELECT e.id, e.tenant_id, e.run_id, e.agent_run_id, e.at, e.type, e.data, w.after
  FROM unnest(%s::uuid[], %s::bigint[]) AS w(run_id, after)
 CROSS JOIN LATERAL (
       SELECT * FROM run_event
        WHERE tenant_id = %s AND run_id = w.run_id AND id > w.after
        ORDER BY id LIMIT %s) AS e
 ORDER BY e.id
"""
_PATIENCE_SECONDS = 1.0
_PAUSE_SECONDS = 0.002
_LONGEST_PAUSE_SECONDS = 0.05
NEWS_LIMIT = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """How far a reader has come in a run's history; `after` is the last id that it has."""

    tenant_id: UUID
    run_id: UUID
    after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What follows a place. After the end of the run and its last event nothing will."""

    events: Sequence[RunEvent]
    is_last: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizon:
    """Every event up to `id` that will ever be can be read; `is_far` if it is the newest of now."""

    id: int
    is_far: bool


class _Watch:
    """Remembers how far this process has seen, for when a writer takes long."""

    def __init__(self) -> None:
        self._known = 0

    def horizon(self, patience: float) -> Horizon:
        until = time.monotonic() + patience
        pause = _PAUSE_SECONDS
        # Ids are given before commit, and not in the order of transactions. So first the newest
        # id, then who is writing; when these have ended, nothing below it is still to come.
        (newest,) = _column(_LAST_ID)
        writers = set(_column(_WRITERS))
        while writers:
            if time.monotonic() > until:
                return Horizon(id=self._known, is_far=False)
            threading.Event().wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            writers &= set(_column(_WRITERS))
        self._known = max(self._known, newest)
        return Horizon(id=newest, is_far=True)


_watch = _Watch()


def horizon(patience: float = _PATIENCE_SECONDS) -> Horizon:
    """Up to where a history can be read. Waits so many seconds at most for those who write now.

    Who writes longer holds up what comes after; then it is as far as was seen before.
    """
    return _watch.horizon(patience)


def events_after(run: Run, event_id: int) -> QuerySet[RunEvent]:
    """The run's history behind an event, oldest first; 0 begins at the beginning."""
    rows = RunEvent.objects.filter(run=run, id__gt=event_id, id__lte=horizon().id)
    return rows.order_by("id")


def news(places: Collection[Place], *, until: int) -> Iterator[tuple[Place, News]]:
    """What each place has before it, up to the horizon `until`. Opens the tenants' scopes."""
    of_tenant = defaultdict(list)
    for place in places:
        of_tenant[place.tenant_id].append(place)
    for tenant_id, those in of_tenant.items():
        with tenant_scope(tenant_id):
            yield from _news_of(tenant_id, those, until).items()


def _news_of(tenant_id: UUID, places: Sequence[Place], until: int) -> Mapping[Place, News]:
    # The states first: what a run wrote with its last one is then among the rows.
    runs = Run.objects.filter(id__in={place.run_id for place in places})
    states = dict(runs.values_list("id", "status"))
    rows: dict[tuple[UUID, int], list[RunEvent]] = defaultdict(list)
    asked = [[place.run_id for place in places], [place.after for place in places]]
    for row in RunEvent.objects.raw(_BEHIND, [*asked, tenant_id, NEWS_LIMIT + 1]):
        rows[row.run_id, row.after].append(row)  # type: ignore[attr-defined]  # annotated
    return {
        place: _page(rows[place.run_id, place.after], states.get(place.run_id), until)
        for place in places
    }


def _page(rows: Sequence[RunEvent], status: str | None, until: int) -> News:
    events = [row for row in rows[:NEWS_LIMIT] if row.id <= until]
    has_ended = status is None or status in TERMINAL_RUN
    return News(events=events, is_last=has_ended and len(events) == len(rows))


def _column(query: str) -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(query)
        return [value for (value,) in cursor.fetchall()]
