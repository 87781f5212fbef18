from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from orchestrator.core.state import LIVE_RUN, AgentRunStatus, RunStatus, WaitingReason
from orchestrator.models.workflow import Workflow, WorkflowVersion
from tenants.kernel.fields import OrderedJSONField
from tenants.kernel.models import TenantForeignKey, TenantOwned
from tenants.models import Project


class RunBatch(TenantOwned):
    """Runs that were started together. How they stand together is read from them."""

    name = models.CharField(max_length=200, blank=True, default="")
    # The project of all its runs; none where they are of several.
    project = TenantForeignKey(
        Project, on_delete=models.CASCADE, null=True, related_name="run_batches", db_index=False
    )
    size = models.PositiveIntegerField()
    started_by = models.JSONField(default=dict)

    labelled_by = ("name",)

    class Meta:
        db_table = "run_batch"
        ordering: ClassVar = ["-id"]
        verbose_name_plural = "run batches"
        indexes: ClassVar = [models.Index(fields=["tenant", "-id"], name="run_batch_latest")]

    def __str__(self) -> str:
        return self.name or str(self.id)


class Run(TenantOwned):
    """One execution of a published version. Changed by the engine's SQL only."""

    project = TenantForeignKey(Project, on_delete=models.CASCADE, related_name="runs")
    workflow = TenantForeignKey(Workflow, on_delete=models.CASCADE, related_name="runs")
    version = TenantForeignKey(WorkflowVersion, on_delete=models.CASCADE, related_name="runs")
    status = models.CharField(
        max_length=24, choices=[(s, s) for s in RunStatus], default=RunStatus.PENDING
    )
    status_reason = models.TextField(blank=True, default="", db_default="")
    input = OrderedJSONField(default=dict)
    output = OrderedJSONField(null=True)
    metadata = models.JSONField(default=dict)
    priority = models.PositiveSmallIntegerField(default=5)
    started_by = models.JSONField(default=dict)
    # Coalesces hints: `advance` is published only when this turns true.
    advance_wanted = models.BooleanField(default=False, db_default=False)
    advance_wanted_at = models.DateTimeField(null=True)
    # How many agent runs may be in flight, and how many are: counted only where more are due at
    # a time than may run, so that in all other runs finishing steps do not queue up for this row.
    window = models.IntegerField(null=True)
    in_flight = models.IntegerField(default=0, db_default=0)
    # How many runs of its workflow may be under way at a time, and whether it waits its turn.
    max_alike = models.PositiveIntegerField(null=True)
    waits_for_turn = models.BooleanField(default=False, db_default=False)
    # The time it may take, its own or the workflow's; one that is retried has it once more.
    deadline_seconds = models.PositiveIntegerField(null=True)
    # The step of another run that this one is the sub-workflow of, and how deep that is.
    parent_agent_run_id = models.UUIDField(null=True)
    depth = models.PositiveSmallIntegerField(default=0, db_default=0)
    deadline_at = models.DateTimeField(null=True)
    # How the run is to end once nothing is at work any more, and the sentence why.
    stop_wanted = models.CharField(max_length=24, blank=True, default="", db_default="")
    stop_reason = models.TextField(blank=True, default="", db_default="")
    # What paused it and asks a person, other than a person: `spend`, or `ask` for its workflow's
    # ladder; and when one last agreed to how fast it spends, by resuming it.
    paused_for = models.CharField(max_length=16, blank=True, default="", db_default="")
    spend_agreed_at = models.DateTimeField(null=True)
    # Which rules of the ladder have taken effect, by number; and while it asks: who may resume it,
    # and until when.
    rungs = ArrayField(models.SmallIntegerField(), default=list, db_default=[])
    asked_roles = ArrayField(models.CharField(max_length=16), default=list, db_default=[])
    answer_due_at = models.DateTimeField(null=True)
    cost_nano = models.BigIntegerField(default=0, db_default=0)
    # What it may cost, which a budget of its own sees to; and the runs, this one and those above
    # it, whose caps hold for its calls.
    max_cost_nano = models.BigIntegerField(null=True)
    cap_runs = ArrayField(models.UUIDField(), default=list, db_default=[])
    added_steps = models.PositiveIntegerField(default=0, db_default=0)
    # An ended run whose outputs this one takes over, from which step on it runs anew, what else
    # is set for those steps, and what the outputs that were taken over had cost.
    replay_of = TenantForeignKey(
        "self", on_delete=models.SET_NULL, null=True, related_name="replays", db_index=False
    )
    replay_from = models.CharField(max_length=63, blank=True, default="", db_default="")
    overrides = OrderedJSONField(null=True)
    saved_nano = models.BigIntegerField(default=0, db_default=0)
    batch = TenantForeignKey(
        RunBatch, on_delete=models.SET_NULL, null=True, related_name="runs", db_index=False
    )
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    labelled_by = ("workflow__name",)

    class Meta:
        db_table = "run"
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(status__in=list(RunStatus)), name="run_status_known"
            ),
            models.CheckConstraint(condition=Q(priority__lte=10), name="run_priority_0_to_10"),
            models.UniqueConstraint(
                fields=["parent_agent_run_id"],
                condition=Q(parent_agent_run_id__isnull=False),
                name="run_once_per_calling_step",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["tenant", "-id"], name="run_latest"),
            models.Index(fields=["tenant", "status", "-id"], name="run_by_status"),
            models.Index(
                fields=["created_at"],
                name="run_live",
                condition=Q(status__in=sorted(LIVE_RUN)),
            ),
            models.Index(
                fields=["batch", "-id"], name="run_of_batch", condition=Q(batch__isnull=False)
            ),
            models.Index(
                fields=["replay_of"], name="run_replays", condition=Q(replay_of__isnull=False)
            ),
        ]

    def __str__(self) -> str:
        return str(self.id)


class AgentRun(TenantOwned):
    """A step inside a run. `attempt` is the fencing token of whoever runs it.

    No index names a column that the engine changes, so that its updates stay in their page
    (HOT); what is in flight is found through the live runs. And none begins with the tenant:
    every query names it, and the planner would rather read all of a tenant's rows.
    """

    run = TenantForeignKey(Run, on_delete=models.CASCADE, related_name="agent_runs", db_index=False)
    # Its place in the run, as `core.places` has it.
    step = models.CharField(max_length=400)
    position = models.PositiveIntegerField()
    # An item of a map, or a step of a loop's round, belongs to the agent run that stands for the
    # whole. Its index is the item's or the round's.
    parent_id = models.UUIDField(null=True)
    item_index = models.IntegerField(null=True)
    item = OrderedJSONField(null=True)
    # The steps that it has added to its run, with what it gave them; and the agent run that has
    # added the step that this one is, or is a part of.
    added = OrderedJSONField(null=True)
    added_by = models.UUIDField(null=True)
    level = models.PositiveIntegerField()
    status = models.CharField(
        max_length=24,
        choices=[(s, s) for s in AgentRunStatus],
        default=AgentRunStatus.PENDING,
        db_default=AgentRunStatus.PENDING.value,
    )
    status_reason = models.TextField(blank=True, default="", db_default="")
    # What a waiting agent run waits for, and when it goes on by itself.
    waiting_for = models.CharField(
        max_length=16,
        blank=True,
        choices=[(r, r) for r in WaitingReason],
        default="",
        db_default="",
    )
    due_at = models.DateTimeField(null=True)
    # The limit or budget that it waits for, by name, and since when it waits for such.
    waits_on = models.TextField(blank=True, default="", db_default="")
    waiting_since = models.DateTimeField(null=True)
    kind = models.CharField(max_length=16, default="agent", db_default="agent")
    priority = models.PositiveSmallIntegerField(default=5)
    agent = models.CharField(max_length=63, blank=True, default="", db_default="")
    uses_model = models.BooleanField(default=True)
    # Takes a processor for itself, so that its first message goes to workers for such steps.
    is_heavy = models.BooleanField(default=False, db_default=False)
    # Who learns that it ended: the chord of its level, `advance`, or the counters of its run.
    in_chord = models.BooleanField(default=False, db_default=False)
    tells = models.BooleanField(default=False, db_default=False)
    # What its completion starts, and which gates it lowers (see `core.plan`).
    next_steps = ArrayField(models.TextField(), default=list, db_default=[])
    gates = ArrayField(models.IntegerField(), default=list, db_default=[])
    # Names of the steps whose outputs its templates read.
    reads = ArrayField(models.TextField(), default=list)
    reads_input = models.BooleanField(default=True)
    attempt = models.PositiveIntegerField(default=0, db_default=0)
    # Attempts that others had to take up again, since their workers died.
    lost_count = models.PositiveSmallIntegerField(default=0, db_default=0)
    # Attempts that ended without failing: to wait, for want of money, with their run, or handed
    # over by a worker that was told to end.
    spared = models.PositiveIntegerField(default=0, db_default=0)
    # Attempts that count no more, since a person had the step tried anew.
    forgiven = models.PositiveIntegerField(default=0, db_default=0)
    timeout_seconds = models.PositiveIntegerField(default=30, db_default=30)
    worker = models.TextField(blank=True, default="", db_default="")
    lease_until = models.DateTimeField(null=True)
    published_at = models.DateTimeField(null=True)
    publish_count = models.PositiveSmallIntegerField(default=0, db_default=0)
    prompt = models.TextField(null=True)
    output = OrderedJSONField(null=True)
    error = models.JSONField(null=True)
    provider = models.CharField(max_length=32, blank=True, default="", db_default="")
    model = models.CharField(max_length=200, blank=True, default="", db_default="")
    role = models.CharField(max_length=32, blank=True, default="", db_default="")
    llm_calls = models.IntegerField(default=0, db_default=0)
    input_tokens = models.BigIntegerField(default=0, db_default=0)
    output_tokens = models.BigIntegerField(default=0, db_default=0)
    cached_tokens = models.BigIntegerField(default=0, db_default=0)
    reasoning_tokens = models.BigIntegerField(default=0, db_default=0)
    cost_nano = models.BigIntegerField(default=0, db_default=0)
    # The agent run of an earlier run whose output this is, and what that had cost.
    reused_from = models.UUIDField(null=True)
    saved_nano = models.BigIntegerField(default=0, db_default=0)
    queued_at = models.DateTimeField(null=True)
    attempt_started_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "agent_run"
        ordering: ClassVar = ["run", "position"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["run", "step"], name="agent_run_once_per_step"),
            models.CheckConstraint(
                condition=Q(status__in=list(AgentRunStatus)), name="agent_run_status_known"
            ),
            models.CheckConstraint(
                condition=Q(lease_until__isnull=False) | ~Q(status="running") | ~Q(kind="agent"),
                name="agent_run_running_has_lease",
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["parent_id", "item_index"],
                name="agent_run_parts",
                condition=Q(parent_id__isnull=False),
            )
        ]

    def __str__(self) -> str:
        return f"{self.step} ({self.status})"


class PartOfRun(models.Model):
    """A small row of a run, many of which are written at a time: of a tenant, and no more."""

    tenant = models.ForeignKey(
        "tenants.Tenant",
        on_delete=models.CASCADE,
        db_constraint=False,
        db_index=False,
        related_name="+",
    )

    objects = models.Manager()

    class Meta:
        abstract = True


class Gate(PartOfRun):
    """How many needs that several steps share have not completed yet (see `core.plan`)."""

    pk = models.CompositePrimaryKey("run_id", "number")
    run = TenantForeignKey(Run, on_delete=models.CASCADE, related_name="+", db_index=False)
    number = models.IntegerField()
    left = models.IntegerField()
    steps = ArrayField(models.TextField())
    tells = models.BooleanField()

    class Meta:
        db_table = "gate"
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(left__gte=0), name="gate_left_not_negative")
        ]

    def __str__(self) -> str:
        return f"{self.number}: {self.left} left"


class ReadyAgentRun(PartOfRun):
    """Agent runs that are due and wait for a place: of their run, their map, or their tenant."""

    pk = models.CompositePrimaryKey("lane", "urgency", "deadline", "position", "agent_run_id")
    # The id of the run, of the agent run that stands for a map, or of the tenant.
    lane = models.UUIDField()
    run = TenantForeignKey(Run, on_delete=models.CASCADE, related_name="+", db_index=False)
    urgency = models.SmallIntegerField()  # 0 goes first: 10 less the priority
    deadline = models.BigIntegerField()  # of the run in Unix seconds; 0 where all have the same
    position = models.BigIntegerField()  # in the tenant's lane: since when, in Unix milliseconds
    agent_run_id = models.UUIDField()
    since = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "ready_agent_run"
        indexes: ClassVar = [models.Index(F("run_id"), name="ready_agent_run_of_run")]

    def __str__(self) -> str:
        return str(self.agent_run_id)


class Attempt(TenantOwned):
    """One try of an agent run, written when it ends, by its worker or by the sweeper."""

    agent_run = TenantForeignKey(
        AgentRun, on_delete=models.CASCADE, related_name="attempts", db_index=False
    )
    number = models.PositiveIntegerField()
    worker = models.TextField()
    outcome = models.CharField(max_length=16)  # completed, failed, lost, handed_over, added_steps
    error = models.JSONField(null=True)
    # What its worker's process took as it ended: cpu_percent, memory_percent, memory_used_mb.
    system = models.JSONField(null=True)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField()

    class Meta:
        db_table = "attempt"
        ordering: ClassVar = ["number"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["agent_run", "number"], name="attempt_number_once")
        ]

    def __str__(self) -> str:
        return f"attempt {self.number}: {self.outcome}"


class CallStatus(models.TextChoices):
    OPEN = "open", "Open"  # sent, or about to be
    CLOSED = "closed", "Closed"  # answered and charged
    FAILED = "failed", "Failed"  # the provider refused or did not answer
    IN_DOUBT = "in_doubt", "In doubt"  # its worker died: charged at its hold until an answer comes


class LlmCall(TenantOwned):
    """One call to a model. A closed call's reply is the memory that a later attempt reuses."""

    agent_run = TenantForeignKey(
        AgentRun, on_delete=models.CASCADE, related_name="calls", db_index=False
    )
    run = TenantForeignKey(Run, on_delete=models.CASCADE, related_name="+")
    attempt = models.PositiveIntegerField()
    turn = models.PositiveIntegerField()
    status = models.CharField(max_length=16, choices=CallStatus.choices, default=CallStatus.OPEN)
    provider = models.CharField(max_length=32)
    model = models.CharField(max_length=200)
    answered_model = models.CharField(max_length=200, blank=True, default="", db_default="")
    role = models.CharField(max_length=32, blank=True)
    # What it adds to the request of a turn before (see `request_to_json`).
    request = models.JSONField()
    reply = models.JSONField(null=True)
    error = models.JSONField(null=True)
    hold_nano = models.BigIntegerField()
    # The periods of budgets in which it is held, or was.
    budget_periods = ArrayField(models.UUIDField(), default=list, db_default=[])
    credential_id = models.UUIDField(null=True)  # None: the operator's own key
    # The batch of its provider's in which it was made, which is forgotten before the call.
    batch_id = models.UUIDField(null=True)
    cost_nano = models.BigIntegerField(default=0, db_default=0)
    input_tokens = models.BigIntegerField(default=0, db_default=0)
    output_tokens = models.BigIntegerField(default=0, db_default=0)
    cached_tokens = models.BigIntegerField(default=0, db_default=0)
    cache_write_tokens = models.BigIntegerField(default=0, db_default=0)
    reasoning_tokens = models.BigIntegerField(default=0, db_default=0)
    estimated = models.BooleanField(default=False, db_default=False)
    # Taken from an earlier call instead of being asked for: it cost nothing.
    is_cached = models.BooleanField(default=False, db_default=False)
    unit_prices = models.JSONField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "llm_call"
        ordering: ClassVar = ["created_at"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(status__in=CallStatus.values), name="llm_call_status_known"
            ),
            models.CheckConstraint(
                condition=Q(hold_nano__gte=0), name="llm_call_hold_not_negative"
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["agent_run", "turn"], name="llm_call_turn")]

    def __str__(self) -> str:
        return f"{self.model} turn {self.turn} ({self.status})"


class ToolCallStatus(models.TextChoices):
    RUNNING = "running", "Running"
    FINISHED = "finished", "Finished"
    FAILED = "failed", "Failed"  # refused or broken, as its agent was told
    IN_DOUBT = "in_doubt", "In doubt"  # cut off: nobody knows whether it has done its work


class ToolCall(TenantOwned):
    """One call of a tool by an agent that works in turns, kept so that it is not made twice.

    `call` is the id that its model knows it by; its own turn, and attempt, are this one's.
    """

    agent_run = TenantForeignKey(
        AgentRun, on_delete=models.CASCADE, related_name="tool_calls", db_index=False
    )
    run = TenantForeignKey(Run, on_delete=models.CASCADE, related_name="+")
    attempt = models.PositiveIntegerField()
    turn = models.PositiveIntegerField()
    call = models.CharField(max_length=200)
    tool = models.CharField(max_length=100)
    arguments = OrderedJSONField()
    status = models.CharField(max_length=16, choices=ToolCallStatus.choices)
    output = OrderedJSONField(null=True)
    error = models.TextField(null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "tool_call"
        ordering: ClassVar = ["created_at"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(status__in=ToolCallStatus.values), name="tool_call_status_known"
            ),
            models.UniqueConstraint(
                fields=["agent_run", "turn", "call", "attempt"], name="tool_call_once_per_attempt"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.tool} turn {self.turn} ({self.status})"


class RunEvent(PartOfRun):
    """One line of a run's history, appended in the transaction of what it tells.

    Ids come from one sequence before commit, so a later id may be visible before an earlier one;
    `selectors.events` knows how far a reader may go.
    """

    id = models.BigAutoField(primary_key=True)
    run = TenantForeignKey(Run, on_delete=models.CASCADE, related_name="events", db_index=False)
    agent_run_id = models.UUIDField(null=True)
    at = models.DateTimeField(db_default=Now())
    type = models.CharField(max_length=48)
    data = models.JSONField(default=dict)

    class Meta:
        db_table = "run_event"
        ordering: ClassVar = ["id"]
        indexes: ClassVar = [models.Index(F("run_id"), F("id"), name="run_event_order")]

    def __str__(self) -> str:
        return f"{self.id} {self.type}"
