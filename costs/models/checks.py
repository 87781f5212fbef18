from typing import ClassVar

from django.db import models
from django.db.models.functions import Now

from tenants.kernel.models import Record


class LedgerCheck(Record):
    """One comparison of the ledger with everything that sums it up, for all tenants at once.

    `night` is the date of a nightly one, so that there is one a night; by hand, it is null. Counts
    say how much was looked at.
    """

    night = models.DateField(null=True, unique=True)
    started_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(db_default=Now())
    lines = models.BigIntegerField()
    calls = models.BigIntegerField()
    agent_runs = models.BigIntegerField()
    runs = models.BigIntegerField()
    periods = models.BigIntegerField(default=0, db_default=0)
    difference_count = models.BigIntegerField()

    objects = models.Manager()

    class Meta:
        db_table = "ledger_check"
        ordering: ClassVar = ["-id"]
        indexes: ClassVar = [
            models.Index(fields=["-finished_at"], name="ledger_check_latest"),
        ]

    def __str__(self) -> str:
        return f"{self.started_at:%Y-%m-%d %H:%M} UTC"


class LedgerDifference(Record):
    """Where two books do not agree. Of one rule at most some hundreds are kept, the largest.

    `what` and `object_id` name the row that is off: plain facts, as in the ledger.
    """

    ledger_check = models.ForeignKey(
        LedgerCheck, on_delete=models.CASCADE, related_name="differences"
    )
    tenant = models.ForeignKey(
        "tenants.Tenant", on_delete=models.CASCADE, db_index=False, related_name="+"
    )
    rule = models.CharField(max_length=48)
    object_id = models.UUIDField()
    run_id = models.UUIDField(null=True)
    expected_nano = models.BigIntegerField()
    found_nano = models.BigIntegerField()
    detail = models.TextField(blank=True)

    objects = models.Manager()

    class Meta:
        db_table = "ledger_difference"
        ordering: ClassVar = ["rule", "id"]
        indexes: ClassVar = [
            models.Index(fields=["tenant", "-id"], name="ledger_difference_latest"),
        ]

    def __str__(self) -> str:
        return f"{self.rule} {self.object_id}"
