"""Which agents took the steps that name a capability."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from orchestrator.models.run import AgentRun, Run
from tenants.kernel.fields import OrderedJSONField
from tenants.kernel.models import TenantForeignKey, TenantOwned


class AgentChoice(TenantOwned):
    """The agent that an agent run was given to when it began, and its step with that agent.

    All attempts at it keep to that. `is_over` once somebody has seen that it has ended, so that
    whoever counts what agents have to do looks at few.
    """

    run = TenantForeignKey(Run, on_delete=models.CASCADE, related_name="+")
    agent_run = TenantForeignKey(
        AgentRun, on_delete=models.CASCADE, related_name="choices", db_index=False
    )
    capability = models.CharField(max_length=63)
    agent = models.CharField(max_length=63)
    step = OrderedJSONField()
    is_over = models.BooleanField(default=False, db_default=False)

    class Meta:
        db_table = "agent_choice"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["agent_run"], name="agent_choice_once")
        ]
        indexes: ClassVar = [
            models.Index(fields=["tenant", "agent", "created_at"], name="agent_choice_lately"),
            models.Index(
                fields=["tenant", "agent"], condition=Q(is_over=False), name="agent_choice_at_work"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.agent} for {self.capability}"
