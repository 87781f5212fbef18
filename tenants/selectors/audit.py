from django.db.models import QuerySet

from tenants.models import AuditEntry
from tenants.scope import current_tenant_id


def audit_entries(**facts: str) -> QuerySet[AuditEntry]:
    """The tenant's log, narrowed to entries with these facts."""
    return AuditEntry.objects.filter(tenant_id=current_tenant_id(), **facts)
