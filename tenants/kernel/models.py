"""What every row of the platform has in common."""

from typing import Any, ClassVar

from django.db import models
from django.db.models.functions import Now
from django.utils import timezone
from uuid_utils.compat import uuid7

from tenants.scope import ScopedManager, current_tenant_id


class Record(models.Model):
    """A row with a time-ordered key. The database fills the times for raw SQL too."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    created_at = models.DateTimeField(default=timezone.now, db_default=Now(), editable=False)
    updated_at = models.DateTimeField(auto_now=True, db_default=Now(), editable=False)

    class Meta:
        abstract = True


class TenantOwned(Record):
    """A row that belongs to one tenant: the one of the open scope, unless said otherwise.

    Each concrete model also needs `IsolateTenant` in its migration, and each key to
    another tenant-owned model a `TenantReference`; a test compares models and catalog.
    """

    tenant = models.ForeignKey(
        "tenants.Tenant",
        on_delete=models.CASCADE,
        default=current_tenant_id,
        editable=False,
        related_name="+",
        # Each table has an index of its own that begins with the tenant and goes on usefully.
        db_index=False,
    )

    objects = ScopedManager()
    # The fields by which people know a row, read where only its id is at hand.
    labelled_by: ClassVar[tuple[str, ...]] = ()

    class Meta:
        abstract = True


class TenantForeignKey(models.ForeignKey[Any, Any]):
    """A key to a row of the same tenant.

    The database constraint is the composite (tenant_id, id), made by `TenantReference`:
    key checks ignore row-level security, so a plain one would accept a stranger's row.
    """

    def __init__(self, to: Any, on_delete: Any, **kwargs: Any) -> None:
        kwargs["db_constraint"] = False
        super().__init__(to, on_delete, **kwargs)
