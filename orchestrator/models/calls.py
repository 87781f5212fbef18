"""What a tenant has kept of its calls to models, and for how long."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from tenants.kernel.models import TenantOwned

MOST_DAYS = 3_650


class Keeps(models.TextChoices):
    FULL = "full", "All of it"
    REDACTED = "redacted", "With secrets and personal data struck out"
    NONE = "none", "Figures alone"


class CallSettings(TenantOwned):
    """A tenant's own; without a row it is as the fields' defaults say.

    While a run goes on, all that was said in it is kept: it goes on from there. `treated_until` and
    `removed_until` are the ends of runs up to which that was done which the settings ask for.
    """

    caches_answers = models.BooleanField(
        default=True,
        db_default=True,
        help_text="Steps that say `cache` may take answers from calls before, and keep theirs.",
    )
    keeps = models.CharField(
        max_length=16,
        choices=Keeps.choices,
        default=Keeps.FULL,
        db_default=Keeps.FULL.value,
        help_text="What is left of prompts, answers and tool calls once their run has ended.",
    )
    keep_days = models.PositiveIntegerField(
        null=True,
        blank=True,
        help_text="After so many days only the figures are left. Empty: as long as the run.",
    )
    treated_until = models.DateTimeField(null=True, editable=False)
    removed_until = models.DateTimeField(null=True, editable=False)

    class Meta:
        db_table = "call_settings"
        verbose_name = "settings of model calls"
        verbose_name_plural = "settings of model calls"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant"], name="call_settings_once_per_tenant"),
            models.CheckConstraint(
                condition=Q(keeps__in=Keeps.values), name="call_settings_keeps_known"
            ),
            models.CheckConstraint(
                condition=Q(keep_days__isnull=True) | Q(keep_days__range=(1, MOST_DAYS)),
                name="call_settings_keep_days_possible",
            ),
        ]

    def __str__(self) -> str:
        return "settings of model calls"


class CachedAnswer(TenantOwned):
    """An answer that a step may take instead of asking for it again.

    `key` is the digest of all that the answer depends on.
    """

    key = models.CharField(max_length=64)
    provider = models.CharField(max_length=32)
    model = models.CharField(max_length=200)
    reply = models.JSONField()
    answered_at = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        db_table = "cached_answer"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant", "key"], name="cached_answer_once_per_key"),
            models.CheckConstraint(
                condition=Q(expires_at__gt=models.F("answered_at")),
                name="cached_answer_ends_after_it_begins",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.provider} {self.model}"
