"""The audit log, and what its lines are about."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.apps import apps
from django.db.models import Model, QuerySet
from django.db.models.constants import LOOKUP_SEP

from tenants.models import AuditEntry
from tenants.scope import current_tenant_id


def audit_entries(**facts: str) -> QuerySet[AuditEntry]:
    """The tenant's log, narrowed to entries with these facts."""
    return AuditEntry.objects.filter(tenant_id=current_tenant_id(), **facts)


def with_labels(entries: Iterable[AuditEntry]) -> list[AuditEntry]:
    """The entries of a page with their `object_label` set, where it can be known.

    It is asked of the row or, where that is gone, of the columns that the entry holds: at
    most a few queries for each table that the page tells of.
    """
    listed = list(entries)
    by_table: defaultdict[str, list[AuditEntry]] = defaultdict(list)
    for entry in listed:
        by_table[entry.object_type].append(entry)
    for model in apps.get_models():
        fields: Sequence[str] = getattr(model, "labelled_by", ())
        if fields and model._meta.db_table in by_table:
            _label(by_table[model._meta.db_table], model, fields)
    return listed


def _label(entries: list[AuditEntry], model: type[Model], fields: Sequence[str]) -> None:
    rows = _values(model, {entry.object_id for entry in entries}, fields)
    gone = [entry for entry in entries if entry.object_id not in rows]
    recalled = [_recalled(gone, model, field) for field in fields] if gone else []
    for entry in entries:
        parts = rows.get(entry.object_id) or [part.get(entry.object_id) for part in recalled]
        entry.object_label = " / ".join(str(part) for part in parts if part is not None)


def _recalled(entries: list[AuditEntry], model: type[Model], field: str) -> dict[str, Any]:
    """What entries of rows that are gone still tell of a field, by the row's id."""
    own, _, of_other = field.partition(LOOKUP_SEP)
    key: Any = model._meta.get_field(own)
    known = {entry.object_id: _facts(entry).get(key.column) for entry in entries}
    if not of_other:
        return known
    others = _values(key.related_model, {str(i) for i in known.values() if i}, [of_other])
    return {row: others[i][0] for row, i in known.items() if i in others}


def _values(model: type[Model], ids: set[str], fields: Sequence[str]) -> dict[str, list[Any]]:
    rows = model._default_manager.filter(pk__in=ids).values_list("pk", *fields)
    return {str(pk): values for pk, *values in rows}


def _facts(entry: AuditEntry) -> Mapping[str, Any]:
    return {**(entry.before or {}), **(entry.after or {})}
