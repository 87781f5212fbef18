"""What a tenant has kept of its calls to models, and for how long."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from tenants.kernel.models import TenantOwned


class CallSettings(TenantOwned):
    """A tenant's own; without a row it is as the fields' defaults say."""

    caches_answers = models.BooleanField(
        default=True,
        db_default=True,
        help_text="Steps that say `cache` may take answers from calls before, and keep theirs.",
    )

    class Meta:
        db_table = "call_settings"
        verbose_name = "settings of model calls"
        verbose_name_plural = "settings of model calls"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant"], name="call_settings_once_per_tenant")
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
