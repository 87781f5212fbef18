from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from orchestrator.models.run import AgentRun, Run
from tenants.kernel.fields import OrderedJSONField
from tenants.kernel.models import TenantForeignKey, TenantOwned


class ApprovalStatus(models.TextChoices):
    OPEN = "open", "Open"  # a person has to decide
    APPROVED = "approved", "Approved"
    REJECTED = "rejected", "Rejected"
    EXPIRED = "expired", "Expired"  # nobody decided in time: it ended as `on_expire` says
    WITHDRAWN = "withdrawn", "Withdrawn"  # its run ended without an answer


class Approval(TenantOwned):
    """A question that a step of a run puts to people. Changed by the engine's SQL only.

    Where it is whether a `tool` may be called, `tool_call_id` is the row of that call. A run
    that is taken up again asks anew, in a row of its own.
    """

    run = TenantForeignKey(Run, on_delete=models.CASCADE, related_name="approvals")
    agent_run = TenantForeignKey(
        AgentRun, on_delete=models.CASCADE, related_name="approvals", db_index=False
    )
    step = models.CharField(max_length=400)
    tool = models.CharField(max_length=100, blank=True, default="", db_default="")
    tool_call_id = models.UUIDField(null=True)
    question = models.TextField()
    show = OrderedJSONField(null=True)
    roles = ArrayField(models.CharField(max_length=16))
    exclude_requester = models.BooleanField(default=False)
    form_schema = OrderedJSONField(null=True)
    expires_at = models.DateTimeField(null=True)
    on_expire = models.CharField(max_length=16)
    on_reject = models.CharField(max_length=16)
    status = models.CharField(
        max_length=16, choices=ApprovalStatus.choices, default=ApprovalStatus.OPEN
    )
    decided_by = models.JSONField(null=True)
    decided_at = models.DateTimeField(null=True)
    form = OrderedJSONField(null=True)

    labelled_by = ("run__workflow__name", "step")

    class Meta:
        db_table = "approval"
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            # A step asks one question, or one for each call that it may not make without.
            models.UniqueConstraint(
                fields=["agent_run", "tool_call_id"],
                condition=Q(status="open"),
                nulls_distinct=False,
                name="approval_open_once",
            ),
            models.CheckConstraint(
                condition=Q(status__in=ApprovalStatus.values), name="approval_status_known"
            ),
            models.CheckConstraint(
                condition=Q(decided_at__isnull=False) | Q(status__in=["open", "withdrawn"]),
                name="approval_decided_has_time",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["tenant", "status", "-id"], name="approval_inbox"),
            models.Index(fields=["agent_run"], name="approval_of_agent_run"),
        ]

    def __str__(self) -> str:
        return f"{self.step} ({self.status})"
