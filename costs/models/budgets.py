from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Q

from tenants.kernel.models import TenantForeignKey, TenantOwned


class BudgetScope(models.TextChoices):
    TENANT = "tenant", "Tenant"
    PROJECT = "project", "Project"
    WORKFLOW = "workflow", "Workflow"
    RUN = "run", "Run"  # with all that its sub-workflows spend
    AGENT = "agent", "Agent"


class Interval(models.TextChoices):
    TOTAL = "total", "For good"
    DAY = "day", "Calendar day"
    MONTH = "month", "Calendar month"


# A budget tells at so many thresholds at most, none of them above so many percent.
MOST_THRESHOLDS = 10
MOST_PERCENT = 1000


def default_thresholds() -> list[int]:
    return [50, 80, 100]


class Budget(TenantOwned):
    """How much may be spent on something, for good or in each day or month of a time zone.

    A hard budget refuses a call whose worst case does not fit; a soft one only warns. What it is
    for, and its interval, never change: another budget is made instead, so that its periods stay
    comparable. The limit may be raised and lowered at any time, also below what is spent: then
    nothing more is let through, and the periods say by how much they are over (`overrun_nano`).
    Budgets of one scope and different intervals hold together.
    """

    name = models.CharField(max_length=120)
    scope = models.CharField(max_length=16, choices=BudgetScope.choices)
    # The project, workflow or run, as a fact: they belong to apps above this one.
    scope_id = models.UUIDField(null=True, blank=True)
    agent = models.SlugField(max_length=63, blank=True, default="")
    interval = models.CharField(
        max_length=8, choices=Interval.choices, default=Interval.MONTH, verbose_name="period"
    )
    time_zone = models.CharField(max_length=64, default="UTC")
    limit_nano = models.BigIntegerField(validators=[MinValueValidator(0)])
    is_hard = models.BooleanField(
        default=True, help_text="Refuses calls that do not fit; a soft budget only warns."
    )
    thresholds = ArrayField(
        models.PositiveSmallIntegerField(),
        default=default_thresholds,
        blank=True,
        help_text="Percentages of the limit at which people are told.",
    )
    is_enabled = models.BooleanField(default=True)
    # Its tenant sees it and cannot change it.
    is_operators = models.BooleanField(default=False, verbose_name="set by the operator")

    labelled_by = ("name",)

    class Meta:
        db_table = "budget"
        ordering: ClassVar = ["name", "id"]
        indexes: ClassVar = [
            # What alerts look through every few seconds; caps of runs are many, and tell nobody.
            models.Index(
                fields=["id"],
                name="budget_with_alerts",
                condition=Q(is_enabled=True) & ~Q(scope="run"),
            ),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["tenant", "scope", "scope_id", "agent", "interval", "is_operators"],
                nulls_distinct=False,
                name="budget_once_per_scope_and_interval",
            ),
            models.CheckConstraint(
                condition=Q(limit_nano__gte=0), name="budget_limit_not_negative"
            ),
            models.CheckConstraint(
                condition=Q(scope__in=BudgetScope.values, interval__in=Interval.values),
                name="budget_scope_and_interval_known",
            ),
            models.CheckConstraint(
                condition=(
                    Q(scope="tenant", scope_id__isnull=True, agent="")
                    | Q(scope__in=["project", "workflow", "run"], scope_id__isnull=False, agent="")
                    | (Q(scope="agent", scope_id__isnull=True) & ~Q(agent=""))
                ),
                name="budget_scope_names_one_thing",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class BudgetPeriod(TenantOwned):
    """What was spent and is held in one period of a budget. Written by SQL alone.

    `key` is `total`, a month (`2026-11`) or a day (`2026-11-21`) in the budget's time zone. A call
    belongs to the period in which it was held, whenever it ends. Of a hard budget spent and held
    never exceed the limit, but for the overrun: by how much they lay above it when the limit was
    lowered, or a call cost more than it had held.
    """

    budget = TenantForeignKey(
        Budget, on_delete=models.CASCADE, related_name="periods", db_index=False
    )
    key = models.CharField(max_length=10)
    limit_nano = models.BigIntegerField()
    is_hard = models.BooleanField()
    spent_nano = models.BigIntegerField(default=0, db_default=0)
    held_nano = models.BigIntegerField(default=0, db_default=0)
    overrun_nano = models.BigIntegerField(default=0, db_default=0)
    # When a call was first refused for good; no more once the limit has been changed.
    refused_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "budget_period"
        ordering: ClassVar = ["budget", "-key"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["budget", "key"], name="budget_period_once"),
            models.CheckConstraint(
                condition=Q(is_hard=False)
                | Q(limit_nano__gte=F("spent_nano") + F("held_nano") - F("overrun_nano")),
                name="budget_period_within_limit",
            ),
            models.CheckConstraint(
                condition=Q(held_nano__gte=0, overrun_nano__gte=0),
                name="budget_period_not_negative",
            ),
        ]

    def __str__(self) -> str:
        return self.key
