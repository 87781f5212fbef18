from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVectorField
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q

from agents_app.core.custom import MAX_CAPABILITIES
from agents_app.core.mcp import SERVER_NAME
from tenants.kernel.fields import OrderedJSONField
from tenants.kernel.models import TenantOwned
from tenants.models import slug_validator

mcp_name_validator = RegexValidator(
    SERVER_NAME,
    "Use 1 to 24 lower-case letters, digits and hyphens; begin and end with a letter or digit.",
)


class MemoryScope(models.TextChoices):
    """Who shares an entry; `agents_app.core.memory.MemoryScope` in Django's form."""

    RUN = "run", "Run"
    AGENT = "agent", "Agent"
    TENANT = "tenant", "Tenant"


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
    # What it is good for, by which steps and other agents may ask for it.
    capabilities = ArrayField(
        models.CharField(max_length=63, validators=[slug_validator]),
        default=list,
        db_default=[],
        blank=True,
        size=MAX_CAPABILITIES,
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


class PromptTemplate(TenantOwned):
    """What a model is told to turn an objective into work, and which model each role has for it.

    `task` is a template with `${objective}` in it; `models` has a provider and a model by role.
    """

    name = models.CharField(max_length=63, validators=[slug_validator])
    description = models.TextField(blank=True)
    system = models.TextField(blank=True, verbose_name="system message")
    task = models.TextField(verbose_name="task prompt")
    models = OrderedJSONField(default=dict, blank=True)

    labelled_by = ("name",)

    class Meta:
        db_table = "prompt_template"
        ordering: ClassVar = ["name"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["tenant", "name"], name="prompt_template_name_once_per_tenant"
            )
        ]

    def __str__(self) -> str:
        return self.name


class MemoryEntry(TenantOwned):
    """Something that agents remember, under a key that is its owner's alone.

    `owner` is a run's id or an agent's slug; of the tenant it is empty. `run_id` is the run that
    wrote it last, as a plain fact, and `calls` are the latest changes by the ids of their calls.
    With a `fault` it cannot be read as what it should be, and is set aside: nobody finds it.
    """

    scope = models.CharField(max_length=8, choices=MemoryScope.choices)
    owner = models.CharField(max_length=63, blank=True)
    key = models.CharField(max_length=200)
    kind = models.CharField(max_length=40)
    content = OrderedJSONField()
    text = models.TextField()
    words = SearchVectorField(null=True, editable=False)
    version = models.PositiveIntegerField(default=1)
    calls = ArrayField(models.UUIDField(), default=list)
    run_id = models.UUIDField(null=True)
    expires_at = models.DateTimeField(null=True)
    fault = models.CharField(max_length=300, blank=True)

    labelled_by = ("key",)

    class Meta:
        db_table = "memory_entry"
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["tenant", "scope", "owner", "key"], name="memory_entry_once_per_key"
            ),
            models.CheckConstraint(
                condition=Q(scope__in=MemoryScope.values), name="memory_entry_scope_known"
            ),
            models.CheckConstraint(
                condition=Q(scope="tenant", owner="") | (~Q(scope="tenant") & ~Q(owner="")),
                name="memory_entry_has_an_owner",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["tenant", "-id"], name="memory_entry_lists"),
            models.Index(
                fields=["expires_at"],
                condition=Q(expires_at__isnull=False),
                name="memory_entry_expiry",
            ),
            GinIndex(fields=["words"], name="memory_entry_words"),
        ]

    def __str__(self) -> str:
        return self.key


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


class McpServer(TenantOwned):
    """A server whose tools the tenant's agents may call, and what it said when it was last asked.

    It is reached at a `url`, or is one of the operator's commands. `credential` names a credential
    for tools, whose secret is its bearer token. `tools` is what it offers, as `core.mcp` lists it;
    without `allowed_tools` (its own names) agents get all of it. `changes` is how the last listing
    that was not the same as the one before it differed.
    """

    name = models.CharField(max_length=24, validators=[mcp_name_validator])
    description = models.TextField(blank=True)
    url = models.CharField(max_length=500, blank=True)
    command = models.CharField(max_length=100, blank=True)
    credential = models.CharField(max_length=100, blank=True)
    allowed_tools = ArrayField(models.CharField(max_length=200), default=list, blank=True)
    timeout_seconds = models.PositiveIntegerField(
        default=60, validators=[MinValueValidator(1), MaxValueValidator(600)]
    )
    enabled = models.BooleanField(default=True)
    protocol = models.CharField(max_length=20, default="auto", editable=False)
    tools = OrderedJSONField(default=list, editable=False)
    left_out = models.JSONField(default=list, editable=False)
    changes = models.JSONField(default=dict, editable=False)
    changed_at = models.DateTimeField(null=True, editable=False)
    asked_at = models.DateTimeField(null=True, editable=False)
    listed_at = models.DateTimeField(null=True, editable=False)
    error = models.CharField(max_length=500, blank=True, editable=False)

    labelled_by = ("name",)

    class Meta:
        db_table = "mcp_server"
        verbose_name = "MCP server"
        ordering: ClassVar = ["name"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["tenant", "name"], name="mcp_server_name_once_per_tenant"
            ),
            models.CheckConstraint(
                condition=models.Q(url="", command__gt="") | models.Q(url__gt="", command=""),
                name="mcp_server_at_one_place",
                violation_error_message="Name an address or a command, and not both.",
            ),
        ]

    def __str__(self) -> str:
        return self.name
