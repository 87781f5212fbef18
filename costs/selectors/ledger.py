from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from costs.models import CostEntry
from tenants.scope import current_tenant_id


def ledger(
    *,
    project_id: UUID | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    **facts: Any,
) -> QuerySet[CostEntry]:
    """The tenant's ledger lines with these facts, by when their calls were set down.

    `until` is exclusive; None does not narrow.
    """
    entries = CostEntry.objects.filter(tenant_id=current_tenant_id(), **facts)
    if project_id is not None:
        entries = entries.filter(project_id=project_id)
    if since is not None:
        entries = entries.filter(held_at__gte=since)
    return entries if until is None else entries.filter(held_at__lt=until)
