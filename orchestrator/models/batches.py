"""Calls to models that are made together, in batches of their providers'."""

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from orchestrator.models.run import PartOfRun, Run
from tenants.kernel.fields import OrderedJSONField
from tenants.kernel.models import TenantForeignKey, TenantOwned


class ModelBatchStatus(models.TextChoices):
    COLLECTING = "collecting", "Collecting"  # takes calls
    SENDING = "sending", "Sending"  # takes no more, and is on its way or about to be
    WORKING = "working", "Working"  # the provider has it
    ENDED = "ended", "Ended"  # each of its calls has ended


class ModelBatch(TenantOwned):
    """Calls of one tenant to one model with one key, as its provider gets them.

    `sent_at` is written before it is sent: one that has it and no `vendor_id` is looked for at the
    provider before it is sent again. Who has it in hand has its lease.
    """

    provider = models.CharField(max_length=32)
    model = models.CharField(max_length=200)
    credential_id = models.UUIDField(null=True)  # None: the operator's own key
    status = models.CharField(
        max_length=16,
        choices=ModelBatchStatus.choices,
        default=ModelBatchStatus.COLLECTING,
        db_default=ModelBatchStatus.COLLECTING.value,
    )
    vendor_id = models.CharField(max_length=200, blank=True, default="", db_default="")
    requests = models.PositiveIntegerField(default=0, db_default=0)
    # What its requests, and the longest answers to them, take in bytes.
    size = models.BigIntegerField(default=0, db_default=0)
    due_at = models.DateTimeField()  # when it is to be looked at
    lease_until = models.DateTimeField(null=True)
    sent_at = models.DateTimeField(null=True)
    submitted_at = models.DateTimeField(null=True)
    cancel_asked_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    tries = models.PositiveIntegerField(default=0, db_default=0)  # that failed, one after another
    error = models.TextField(blank=True, default="", db_default="")

    class Meta:
        db_table = "model_batch"
        verbose_name_plural = "model batches"
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(status__in=ModelBatchStatus.values), name="model_batch_status_known"
            ),
            models.UniqueConstraint(
                fields=["tenant", "provider", "model", "credential_id"],
                name="model_batch_collecting_once",
                condition=Q(status="collecting"),
                nulls_distinct=False,
            ),
        ]
        indexes: ClassVar = [
            models.Index(F("due_at"), name="model_batch_due", condition=~Q(status="ended"))
        ]

    def __str__(self) -> str:
        return f"{self.provider} {self.model} ({self.status})"


class BatchedCall(PartOfRun):
    """A call whose answer a batch is to bring, by the call's id: gone once it has ended.

    `is_given_up`: its step waits for it no more.
    """

    id = models.UUIDField(primary_key=True)
    batch = TenantForeignKey(ModelBatch, on_delete=models.CASCADE, related_name="calls")
    run = TenantForeignKey(Run, on_delete=models.CASCADE, related_name="+")
    # In full, as the provider is to be asked.
    request = OrderedJSONField()
    until = models.DateTimeField()
    is_given_up = models.BooleanField(default=False, db_default=False)

    class Meta:
        db_table = "batched_call"

    def __str__(self) -> str:
        return str(self.id)
