from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models

from tenants.kernel.fields import OrderedJSONField
from tenants.kernel.models import TenantOwned
from tenants.models import slug_validator


class Agent(TenantOwned):
    """A saved agent that workflow steps name by its slug.

    Publishing a workflow freezes a copy, so later edits never change a published version.
    Empty fields leave the choice to the workflow's defaults.
    """

    slug = models.CharField(max_length=63, validators=[slug_validator])
    name = models.CharField(max_length=200)
    description = models.TextField(blank=True)
    type = models.CharField(max_length=32, default="prompt")
    role = models.CharField(max_length=32, blank=True)
    provider = models.CharField(max_length=32, blank=True)
    model = models.CharField(max_length=200, blank=True)
    system = models.TextField(blank=True, verbose_name="system prompt")
    prompt = models.TextField(blank=True)
    tools = ArrayField(models.CharField(max_length=100), default=list, blank=True)
    parameters = OrderedJSONField(default=dict, blank=True)
    output_schema = OrderedJSONField(null=True, blank=True)
    settings = OrderedJSONField(
        default=dict, blank=True, help_text="What the agent's type needs beyond the fields above."
    )

    labelled_by = ("slug",)

    class Meta:
        db_table = "agent"
        ordering: ClassVar = ["slug"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant", "slug"], name="agent_slug_once_per_tenant")
        ]

    def __str__(self) -> str:
        return self.slug


class AgentGrant(TenantOwned):
    """Whether a tenant's workflows may use a type of agent, or a custom agent.

    Without one, what comes with the platform is allowed, and what others bring is not.
    """

    agent = models.CharField(max_length=63)
    is_allowed = models.BooleanField(default=True)

    labelled_by = ("agent",)

    class Meta:
        db_table = "agent_grant"
        ordering: ClassVar = ["agent"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant", "agent"], name="agent_grant_once_per_agent")
        ]

    def __str__(self) -> str:
        return self.agent


class ToolGrant(TenantOwned):
    """What a tenant's admins say of a tool: whether its agents may use it, and how.

    Without one, tools that reach out are refused and all others allowed. `settings` are the
    tool's own: hosts, names of credentials and the like; never a secret.
    """

    tool = models.CharField(max_length=100)
    is_allowed = models.BooleanField(default=True)
    settings = OrderedJSONField(default=dict, blank=True)

    labelled_by = ("tool",)

    class Meta:
        db_table = "tool_grant"
        ordering: ClassVar = ["tool"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant", "tool"], name="tool_grant_once_per_tool")
        ]

    def __str__(self) -> str:
        return self.tool
