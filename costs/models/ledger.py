from typing import ClassVar

from django.db import models
from django.db.models.functions import Now
from django.utils import timezone


class CostKind(models.TextChoices):
    CALL = "call", "Call"  # an answered call, at its real usage
    IN_DOUBT = "in_doubt", "In doubt"  # outcome unknown after a crash: charged at its worst case
    FAILED = "failed", "Failed"  # refused by the provider: nothing was charged
    CORRECTION = "correction", "Correction"  # a late answer: real cost less what was charged


class CostEntry(models.Model):
    """One line of the ledger for one LLM attempt. Append-only; amounts in nano-USD.

    Run, step and agent are plain facts, not keys: the ledger outlives pruned runs. `at` is when the
    line was written, `held_at` when its call was set down: all lines of a call, a late correction
    too, belong to the period in which it was held, in budgets and reports alike.
    `input_tokens` includes cached and cache-write tokens, `output_tokens` reasoning tokens.
    """

    id = models.UUIDField(primary_key=True, editable=False)
    tenant = models.ForeignKey(
        "tenants.Tenant", on_delete=models.PROTECT, db_index=False, related_name="+"
    )
    at = models.DateTimeField(default=timezone.now, db_default=Now())
    held_at = models.DateTimeField(default=timezone.now, db_default=Now())
    kind = models.CharField(max_length=16, choices=CostKind.choices)
    amount_nano = models.BigIntegerField()
    currency = models.CharField(max_length=3, default="USD", db_default="USD")
    estimated = models.BooleanField(default=False)
    call_id = models.UUIDField()
    project_id = models.UUIDField()
    workflow_id = models.UUIDField()
    workflow_name = models.CharField(max_length=200)
    run_id = models.UUIDField()
    agent_run_id = models.UUIDField()
    attempt = models.IntegerField()
    step = models.CharField(max_length=400)
    agent = models.CharField(max_length=63, blank=True)
    role = models.CharField(max_length=32, blank=True)
    provider = models.CharField(max_length=32)
    model = models.CharField(max_length=200)
    input_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    cached_tokens = models.BigIntegerField(default=0)
    cache_write_tokens = models.BigIntegerField(default=0)
    reasoning_tokens = models.BigIntegerField(default=0)
    # Those of the cache-write tokens that were written for an hour.
    cache_write_1h_tokens = models.BigIntegerField(default=0, db_default=0)
    unit_prices = models.JSONField(
        help_text="USD per million tokens by kind, and where the price came from."
    )

    objects = models.Manager()

    class Meta:
        db_table = "cost_entry"
        ordering: ClassVar = ["-id"]
        verbose_name_plural = "cost entries"
        constraints: ClassVar = [
            # One line of each kind a call: a doubled close cannot charge twice.
            models.UniqueConstraint(
                fields=["tenant", "call_id", "kind"], name="cost_entry_once_per_call"
            ),
            models.CheckConstraint(
                condition=models.Q(kind__in=CostKind.values), name="cost_entry_kind_known"
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["tenant", "run_id"], name="cost_entry_run"),
            models.Index(fields=["tenant", "held_at"], name="cost_entry_held"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.amount_nano} nano-USD"
