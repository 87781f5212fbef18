"""What the agents of a run tell each other, and keep together."""

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from agents_app.core.todos import TodoStatus
from orchestrator.models.run import AgentRun, PartOfRun, Run
from tenants.kernel.fields import OrderedJSONField
from tenants.kernel.models import TenantForeignKey, TenantOwned


class RunTally(PartOfRun):
    """How much a run's agents have exchanged.

    Whoever writes some of it has this row until its commit, so numbers are in the order of commits.
    """

    pk = models.CompositePrimaryKey("run_id", "tenant_id")
    run = TenantForeignKey(Run, on_delete=models.CASCADE, related_name="+", db_index=False)
    messages = models.BigIntegerField(default=0, db_default=0)
    # Of the values that agents share and keep: all that are kept, earlier versions included.
    context_versions = models.IntegerField(default=0, db_default=0)
    context_bytes = models.BigIntegerField(default=0, db_default=0)
    # Those that were ever made; and those that there are.
    todos_made = models.IntegerField(default=0, db_default=0)
    todos = models.IntegerField(default=0, db_default=0)

    class Meta:
        db_table = "run_tally"

    def __str__(self) -> str:
        return f"{self.messages} messages"


class CallEffect(PartOfRun):
    """What a call of an agent has done or read, for when it is made again after a worker's death.

    `call` is the same for every attempt at it.
    """

    pk = models.CompositePrimaryKey("agent_run_id", "call")
    run = TenantForeignKey(Run, on_delete=models.CASCADE, related_name="+")
    agent_run_id = models.UUIDField()
    call = models.UUIDField()
    effect = OrderedJSONField()

    class Meta:
        db_table = "call_effect"

    def __str__(self) -> str:
        return str(self.call)


class AgentMessage(PartOfRun):
    """A message between agents of a run, in the order of its number.

    It goes to one of them (`receiver`), to whoever subscribed to its topic or has a capability, or
    to all.
    """

    id = models.UUIDField(primary_key=True)
    run = TenantForeignKey(Run, on_delete=models.CASCADE, related_name="messages", db_index=False)
    number = models.BigIntegerField()
    sender = TenantForeignKey(
        AgentRun, on_delete=models.CASCADE, related_name="sent_messages", db_index=False
    )
    # The call that sent it: one message, however often it is made again.
    call = models.UUIDField()
    receiver = TenantForeignKey(
        AgentRun,
        on_delete=models.CASCADE,
        null=True,
        related_name="received_messages",
        db_index=False,
    )
    # How many messages to its receiver alone there are, this one included.
    inbox_number = models.BigIntegerField(null=True)
    topic = models.CharField(max_length=100, blank=True, default="", db_default="")
    capability = models.CharField(max_length=100, blank=True, default="", db_default="")
    type = models.CharField(max_length=100)
    priority = models.PositiveSmallIntegerField()
    # The id of the message that a conversation began with.
    correlation_id = models.UUIDField()
    content = OrderedJSONField()
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "agent_message"
        ordering: ClassVar = ["number"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["run", "number"], name="agent_message_number_once"),
            models.UniqueConstraint(fields=["sender", "call"], name="agent_message_once_per_call"),
            models.CheckConstraint(
                condition=Q(priority__lte=10), name="agent_message_priority_0_to_10"
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["receiver", "number"],
                name="agent_message_inbox",
                condition=Q(receiver__isnull=False),
            ),
            models.Index(
                F("run_id"),
                F("number"),
                name="agent_message_common",
                condition=Q(receiver__isnull=True),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.number} {self.type}"


class MessagePlace(PartOfRun):
    """How far an agent has read: up to a number it has seen all that concerns it, but what is left.

    Apart for messages to it alone, and for those to several.
    """

    pk = models.CompositePrimaryKey("agent_run_id", "tenant_id")
    run = TenantForeignKey(Run, on_delete=models.CASCADE, related_name="+")
    agent_run_id = models.UUIDField()
    # Attempts that counted no more as it was read: who begins anew, reads from the beginning.
    forgiven = models.PositiveIntegerField()
    direct_seen = models.BigIntegerField(default=0, db_default=0)
    direct_left = ArrayField(models.BigIntegerField(), default=list, db_default=[])
    direct_taken = models.BigIntegerField(default=0, db_default=0)
    common_seen = models.BigIntegerField(default=0, db_default=0)
    common_left = ArrayField(models.BigIntegerField(), default=list, db_default=[])
    taken = models.BigIntegerField(default=0, db_default=0)

    class Meta:
        db_table = "message_place"

    def __str__(self) -> str:
        return f"{self.taken} read"


class MessageSubscription(PartOfRun):
    """Has messages of a topic, or of any if it is empty, reach an agent.

    With a condition in CEL, only those for which it holds.
    """

    pk = models.CompositePrimaryKey("agent_run_id", "topic", "condition")
    run = TenantForeignKey(Run, on_delete=models.CASCADE, related_name="+")
    agent_run_id = models.UUIDField()
    topic = models.CharField(max_length=100)
    condition = models.TextField()

    class Meta:
        db_table = "message_subscription"

    def __str__(self) -> str:
        return f"{self.topic or 'any topic'} {self.condition}"


class ContextValue(TenantOwned):
    """A version of a value that agents of a run share, or that one of them keeps for itself.

    The last hundred of a key are kept; the highest is what holds.
    """

    run = TenantForeignKey(Run, on_delete=models.CASCADE, related_name="context", db_index=False)
    # The run, or the agent run that alone sees it.
    namespace = models.UUIDField()
    key = models.CharField(max_length=200)
    version = models.PositiveIntegerField()
    value = OrderedJSONField(null=True)
    size = models.PositiveIntegerField()
    writer = TenantForeignKey(
        AgentRun, on_delete=models.CASCADE, related_name="written_values", db_index=False
    )

    class Meta:
        db_table = "context_value"
        ordering: ClassVar = ["key", "-version"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["run", "namespace", "key", "version"], name="context_value_version_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.key} {self.version}"


class Todo(TenantOwned):
    """Something that agents of a run have set themselves to do. Its number is its id to them."""

    run = TenantForeignKey(Run, on_delete=models.CASCADE, related_name="todos", db_index=False)
    number = models.PositiveIntegerField()
    text = models.TextField()
    status = models.CharField(
        max_length=16, choices=[(s, s) for s in TodoStatus], default=TodoStatus.PENDING
    )
    priority = models.PositiveSmallIntegerField(default=5)
    needs = ArrayField(models.IntegerField(), default=list)
    writer = TenantForeignKey(AgentRun, on_delete=models.CASCADE, related_name="+", db_index=False)

    class Meta:
        db_table = "todo"
        ordering: ClassVar = ["number"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["run", "number"], name="todo_number_once"),
            models.CheckConstraint(
                condition=Q(status__in=list(TodoStatus)), name="todo_status_known"
            ),
            models.CheckConstraint(condition=Q(priority__lte=10), name="todo_priority_0_to_10"),
        ]

    def __str__(self) -> str:
        return f"{self.number}: {self.text[:60]}"
