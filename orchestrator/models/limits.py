"""Limits on calls to models, as people set them. What they have granted lies in Redis."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from orchestrator.core.limits import Counting, Period, Unit
from orchestrator.core.limits.rules import MOST
from orchestrator.models.workflow import Workflow
from tenants.kernel.models import Record, TenantForeignKey, TenantOwned
from tenants.models import Credential, Project, slug_validator

PERIODS = [period.value for period in Period]
UNIT_LABELS = {unit.value: unit.value.replace("_", " ") for unit in Unit}
COUNTING_LABELS = {
    Counting.BUCKET.value: "bucket that refills steadily",
    Counting.WINDOW.value: "window that begins with each period",
    Counting.CALENDAR.value: "calendar day of a time zone",
}


class LimitFields(models.Model):
    """So much of a unit in a period, for what the rest of the row says.

    `capacity` is what a bucket gathers at most while nothing is taken; empty, it is the limit.
    """

    provider = models.CharField(
        max_length=32, blank=True, default="", help_text="Empty: calls to all providers together."
    )
    model = models.CharField(
        max_length=200, blank=True, default="", help_text="Empty: all models together."
    )
    unit = models.CharField(max_length=32, choices=list(UNIT_LABELS.items()))
    period = models.CharField(
        max_length=8,
        blank=True,
        default="",
        choices=[(period, period) for period in PERIODS],
        help_text="Empty for concurrent calls, which have none.",
    )
    counting = models.CharField(
        max_length=16,
        choices=list(COUNTING_LABELS.items()),
        default=Counting.BUCKET.value,
    )
    limit = models.BigIntegerField(help_text="How much a period grants.")
    capacity = models.BigIntegerField(
        null=True,
        blank=True,
        help_text="How much a bucket gathers while it is not used. Empty: the limit.",
    )
    time_zone = models.CharField(
        max_length=64, blank=True, default="", help_text="Of calendar days, such as Europe/Berlin."
    )

    class Meta:
        abstract = True

    def __str__(self) -> str:
        per = f" per {self.period}" if self.period else ""
        return f"{self.limit:,} {UNIT_LABELS.get(self.unit, self.unit)}{per}"


def _sound(table: str) -> list[models.CheckConstraint]:
    concurrent = Q(unit=Unit.CONCURRENT.value)
    calendar = Q(counting=Counting.CALENDAR.value)
    bucket = Q(counting=Counting.BUCKET.value)
    rules = {
        "unit_known": Q(unit__in=list(UNIT_LABELS)),
        "counting_known": Q(counting__in=list(COUNTING_LABELS)),
        "limit_possible": Q(limit__range=(1, MOST)),
        "capacity_possible": Q(capacity__isnull=True) | (bucket & Q(capacity__range=(1, MOST))),
        "period_fits": (concurrent & Q(period="")) | (~concurrent & Q(period__in=PERIODS)),
        "calendar_fits": (calendar & Q(period=Period.DAY.value) & ~Q(time_zone=""))
        | (~calendar & Q(time_zone="")),
        "concurrent_plain": ~concurrent | (bucket & Q(capacity__isnull=True)),
        "model_has_provider": Q(model="") | ~Q(provider=""),
    }
    return [
        models.CheckConstraint(condition=rule, name=f"{table}_{name}")
        for name, rule in rules.items()
    ]


class PlatformScope(models.TextChoices):
    EVERYTHING = "everything", "All calls of the platform together"
    PROVIDER = "provider", "A provider's or model's calls with the operator's keys"
    TENANT = "tenant", "Each tenant's calls, or one tenant's"


class PlatformRateLimit(LimitFields, Record):
    """A limit that the operator sets for all tenants together, or for each of them.

    A tenant's own row (`for_tenant`) takes the place of the one for each tenant.
    """

    scope = models.CharField(max_length=16, choices=PlatformScope.choices)
    for_tenant = models.ForeignKey(
        "tenants.Tenant",
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="+",
        verbose_name="tenant",
        help_text="Scope tenant: the one that this is for. Empty: each that has none of its own.",
    )

    labelled_by: ClassVar[tuple[str, ...]] = ("scope", "provider", "model", "unit", "period")

    class Meta:
        db_table = "platform_rate_limit"
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            *_sound("platform_rate_limit"),
            models.UniqueConstraint(
                fields=["scope", "for_tenant", "provider", "model", "unit", "period"],
                name="platform_rate_limit_once",
                nulls_distinct=False,
            ),
            models.CheckConstraint(
                condition=Q(scope__in=PlatformScope.values), name="platform_rate_limit_scope_known"
            ),
            models.CheckConstraint(
                condition=Q(for_tenant__isnull=True) | Q(scope=PlatformScope.TENANT),
                name="platform_rate_limit_tenant_fits",
            ),
            models.CheckConstraint(
                condition=~Q(scope=PlatformScope.PROVIDER) | ~Q(provider=""),
                name="platform_rate_limit_provider_named",
            ),
        ]


class LimitScope(models.TextChoices):
    TENANT = "tenant", "The whole tenant"
    PROJECT = "project", "A project"
    WORKFLOW = "workflow", "A workflow"
    AGENT = "agent", "A saved agent"
    CREDENTIAL = "credential", "A key of the tenant's own"


def _only_for(scope: LimitScope, is_named: Q) -> Q:
    """What a scope names is named by limits of this scope, and by no others."""
    return (Q(scope=scope) & is_named) | (~Q(scope=scope) & ~is_named)


class RateLimit(LimitFields, TenantOwned):
    """A limit that a tenant sets for itself. It only ever tightens what the operator allows."""

    scope = models.CharField(max_length=16, choices=LimitScope.choices)
    project = TenantForeignKey(
        Project,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="rate_limits",
        db_index=False,
    )
    workflow = TenantForeignKey(
        Workflow,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="rate_limits",
        db_index=False,
    )
    agent = models.CharField(max_length=63, blank=True, default="", validators=[slug_validator])
    credential = TenantForeignKey(
        Credential,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="rate_limits",
        db_index=False,
    )

    labelled_by = ("scope", "unit", "period")

    class Meta:
        db_table = "rate_limit"
        ordering: ClassVar = ["-id"]
        indexes: ClassVar = [models.Index(fields=["tenant", "-id"], name="rate_limit_latest")]
        constraints: ClassVar = [
            *_sound("rate_limit"),
            models.UniqueConstraint(
                fields=[
                    "tenant",
                    "scope",
                    "project",
                    "workflow",
                    "agent",
                    "credential",
                    "provider",
                    "model",
                    "unit",
                    "period",
                ],
                name="rate_limit_once",
                nulls_distinct=False,
            ),
            models.CheckConstraint(
                condition=Q(scope__in=LimitScope.values)
                & _only_for(LimitScope.PROJECT, Q(project__isnull=False))
                & _only_for(LimitScope.WORKFLOW, Q(workflow__isnull=False))
                & _only_for(LimitScope.AGENT, ~Q(agent=""))
                & _only_for(LimitScope.CREDENTIAL, Q(credential__isnull=False)),
                name="rate_limit_scope_fits",
            ),
        ]
