"""How much of the cluster each tenant takes: what the fair shares are worked out from."""

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now

from orchestrator.models.run import PartOfRun


class TenantLoad(PartOfRun):
    """What a tenant has in flight, as one database connection counted it.

    Only the sum over all connections means something: what one has queued another finishes.
    """

    pk = models.CompositePrimaryKey("tenant_id", "connection")
    connection = models.IntegerField()
    in_flight = models.BigIntegerField()
    ended = models.BigIntegerField()

    class Meta:
        db_table = "tenant_load"

    def __str__(self) -> str:
        return f"{self.in_flight} by {self.connection}"


class TenantShare(models.Model):
    """How many agent runs of a tenant may be in flight at present."""

    tenant = models.OneToOneField(
        "tenants.Tenant", on_delete=models.CASCADE, primary_key=True, related_name="+"
    )
    window = models.IntegerField()

    objects = models.Manager()

    class Meta:
        db_table = "tenant_share"

    def __str__(self) -> str:
        return f"{self.tenant_id}: {self.window}"


class SpendMinute(PartOfRun):
    """What a tenant has spent in a minute in which it spent something: to know what is usual."""

    pk = models.CompositePrimaryKey("tenant_id", "minute")
    minute = models.DateTimeField()
    spent_nano = models.BigIntegerField()

    class Meta:
        db_table = "spend_minute"

    def __str__(self) -> str:
        return f"{self.spent_nano} at {self.minute}"


class ClusterLoad(models.Model):
    """One row: the window of a tenant that has no share yet."""

    id = models.SmallIntegerField(primary_key=True)
    window = models.IntegerField()

    objects = models.Manager()

    class Meta:
        db_table = "cluster_load"
        constraints: ClassVar = [
            models.CheckConstraint(condition=models.Q(id=1), name="cluster_load_once")
        ]

    def __str__(self) -> str:
        return str(self.window)


class WorkerProcess(models.Model):
    """A process that runs agents, how many at a time, and what it has done. Renewed in seconds."""

    name = models.TextField(primary_key=True)
    slots = models.PositiveIntegerField()
    handled = models.BigIntegerField(default=0, db_default=0)  # messages
    started_at = models.DateTimeField(db_default=Now())
    seen_at = models.DateTimeField(db_default=Now())

    objects = models.Manager()

    class Meta:
        db_table = "worker_process"

    def __str__(self) -> str:
        return self.name
