from typing import ClassVar

from django.db import models
from django.db.models import Q

from tenants.kernel.models import TenantOwned


class AlertKind(models.TextChoices):
    THRESHOLD = "threshold", "Budget threshold"
    UNUSUAL = "unusual", "Unusual spend"
    VELOCITY = "velocity", "Run paused for its spend"
    ASK = "ask", "Run asks before it spends more"


class CostAlert(TenantOwned):
    """What people are told about money, once: for a threshold of a period of a budget, or a day.

    The budget is a plain fact, so that the alert outlives it. `period` is that of the budget, or
    the day, UTC, on which spend was unusual; `limit_nano` is the budget's, or from where on spend
    was unusual. A run that was paused for what it spends is told of each time: both amounts are
    those of a minute. So is one that asks whether it may go on, with what it has used of its cap.
    While `mail_due_at` is set, mail has still to be sent.
    """

    kind = models.CharField(max_length=16, choices=AlertKind.choices)
    budget_id = models.UUIDField(null=True)
    run_id = models.UUIDField(null=True)
    budget_name = models.CharField(max_length=120, blank=True, default="", db_default="")
    period = models.CharField(max_length=10)
    threshold = models.PositiveSmallIntegerField(default=0, db_default=0)
    spent_nano = models.BigIntegerField()
    limit_nano = models.BigIntegerField()
    # A call was refused: a hard budget is exhausted before its last nano-dollar is spent.
    refuses = models.BooleanField(default=False, db_default=False)
    mail_due_at = models.DateTimeField(null=True)
    mail_tries = models.PositiveSmallIntegerField(default=0, db_default=0)
    mailed_at = models.DateTimeField(null=True)
    mailed_to = models.PositiveIntegerField(default=0, db_default=0)

    labelled_by = ("budget_name", "period")

    class Meta:
        db_table = "cost_alert"
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["tenant", "kind", "budget_id", "period", "threshold"],
                condition=Q(kind__in=["threshold", "unusual"]),
                nulls_distinct=False,
                name="cost_alert_once",
            ),
            models.CheckConstraint(
                condition=Q(kind__in=AlertKind.values), name="cost_alert_kind_known"
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["tenant", "-id"], name="cost_alert_latest"),
            models.Index(
                fields=["mail_due_at"],
                name="cost_alert_mail",
                condition=Q(mail_due_at__isnull=False),
            ),
        ]

    @property
    def percent(self) -> str:
        return f"{self.threshold} %"

    def __str__(self) -> str:
        return f"{self.budget_name or 'unusual spend'} {self.period}"
