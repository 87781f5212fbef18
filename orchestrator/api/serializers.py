from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail
from rest_framework.request import Request
from rest_framework.reverse import reverse

from costs.api.serializers import Usd, UsdText
from costs.core.money import format_usd
from orchestrator.core.objectives import MAX_OBJECTIVE
from orchestrator.core.spec import DEFAULT_PRIORITY
from orchestrator.core.state import AgentRunStatus, RunStatus, RunWait, WaitingReason
from orchestrator.core.values import MAX_DURATION_SECONDS, MAX_METADATA_KEYS
from orchestrator.models import AgentRun, Run, RunEvent
from orchestrator.selectors.runs import TOKENS, with_total
from tenants.api.serializers import (
    DurationText,
    ProjectRef,
    Query,
    Slug,
    Strict,
    Text,
    Whole,
    reference,
)

RUN_STATUSES = [str(status) for status in RunStatus]
AGENT_RUN_STATUSES = [str(status) for status in AgentRunStatus]
WAITING_REASONS = [str(reason) for reason in WaitingReason]
METADATA_PREFIX = "metadata."
_NANO = "_nano"
_MAX_BIGINT = 2**63 - 1
_MAX_INT = 2**31 - 1


class ProjectChoice(Strict):
    """In which project: its slug or id. Needed where a tenant has several."""

    project = reference(required=False)


class ProblemOut(serializers.Serializer[Any]):
    loc = serializers.CharField()
    code = serializers.CharField()
    message = serializers.CharField()


class ReportOut(serializers.Serializer[Any]):
    valid = serializers.BooleanField()
    errors = ProblemOut(many=True)  # type: ignore[assignment]  # the name of a field


class WorkflowQuery(Query):
    project = reference(required=False)
    name = serializers.CharField(required=False, max_length=63)


class WorkflowOut(serializers.Serializer[Any]):
    """`version` is the number of the current published version."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    description = serializers.SerializerMethodField()
    module = serializers.CharField(allow_null=True)
    project = ProjectRef()
    version = serializers.IntegerField(source="current_version.number", default=None)
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()

    def get_description(self, workflow: Any) -> str:
        return workflow.description or ""


class WorkflowDetail(WorkflowOut):
    spec = serializers.DictField(help_text="The draft, as its author would write it.")


class VersionOut(serializers.Serializer[Any]):
    number = serializers.IntegerField()
    created_at = serializers.DateTimeField()


class VersionDetail(VersionOut):
    spec = serializers.DictField()


class ShapeOut(serializers.Serializer[Any]):
    strategy = serializers.CharField()
    levels = serializers.ListField(child=serializers.ListField(child=serializers.CharField()))
    entry_steps = serializers.ListField(child=serializers.CharField())
    exit_steps = serializers.ListField(child=serializers.CharField())
    critical_path = serializers.ListField(child=serializers.CharField())
    widest_level = serializers.ListField(child=serializers.CharField())


class MermaidOut(serializers.Serializer[Any]):
    mermaid = serializers.CharField()


class RunBody(Strict):
    workflow = reference(help_text="Name or id.")
    project = reference(required=False, help_text="Slug or id, if the name alone is not enough.")
    version = Whole(required=False, min_value=1, max_value=_MAX_INT)
    input = serializers.JSONField(required=False)
    priority = Whole(required=False, min_value=0, max_value=10, default=DEFAULT_PRIORITY)
    deadline = DurationText(
        required=False,
        at_most_hours=MAX_DURATION_SECONDS // 3600,
        error_messages={"duration": "Write a duration such as 30s, 10m or 1h30m."},
        help_text="How long the run may take, instead of what its workflow says.",
    )
    max_cost_usd = UsdText(
        required=False,
        source="max_cost_nano",
        help_text="What it may cost, where that is less than its workflow allows.",
    )
    metadata = serializers.DictField(
        required=False, help_text="Yours to find the run again: `GET runs?metadata.key=value`."
    )

    def validate_deadline(self, value: timedelta) -> timedelta:
        if not value:
            raise serializers.ValidationError("A run needs more time than none.", "min_value")
        return value

    def validate_metadata(self, value: dict[str, Any]) -> dict[str, Any]:
        if len(value) > MAX_METADATA_KEYS:
            raise serializers.ValidationError(
                f"At most {MAX_METADATA_KEYS} keys are kept.", "too_many"
            )
        return value


class RunStart(RunBody):
    """A run of a workflow, or of an objective in plain words."""

    workflow = reference(required=False, help_text="Name or id; or say `objective`.")
    objective = Text(
        required=False,
        max_length=MAX_OBJECTIVE,
        help_text="What is to be done, instead of a workflow: it is planned, then carried out.",
    )
    approve = serializers.BooleanField(
        required=False, help_text="With an objective: a person sees the plan before it is begun."
    )
    approve_above_usd = UsdText(
        required=False,
        source="approve_above_nano",
        help_text="Likewise, where the plan may cost more, or nobody can tell.",
    )
    template = reference(required=False, help_text="With an objective: the set of prompts.")

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        if ("workflow" in values) == ("objective" in values):
            problem = ErrorDetail("Say either `workflow` or `objective`.", "required")
            raise serializers.ValidationError({"workflow": [problem]})
        foreign = _OF_WORKFLOWS if "objective" in values else _OF_OBJECTIVES
        told = "objective" if "objective" in values else "workflow"
        wrong = {
            name: [ErrorDetail(f"It does not go with `{told}`.", "not_applicable")]
            for name in sorted(foreign & values.keys())
        }
        if wrong:
            raise serializers.ValidationError(wrong)
        return values


_OF_WORKFLOWS = frozenset({"version", "input"})
_OF_OBJECTIVES = frozenset({"approve", "approve_above_nano", "template"})


class PlannedTaskOut(serializers.Serializer[Any]):
    id = serializers.CharField()
    title = serializers.CharField()
    status = serializers.CharField(
        help_text="pending, in_progress or completed; else what its step ended as."
    )
    needs = serializers.ListField(child=serializers.CharField())
    priority = serializers.IntegerField()
    done_by = serializers.CharField(help_text="A tool, an agent, a workflow, or the agent's type.")
    step = serializers.CharField(help_text="The agent run that carries it out.")


class PlannedRoundOut(serializers.Serializer[Any]):
    """What a planner handed out at a time. `worst_case_usd` is null where nobody can tell."""

    planner = serializers.CharField(source="step")
    worst_case_usd = Usd(source="worst_nano", allow_null=True)
    tasks = PlannedTaskOut(many=True)


class ProgressOut(serializers.Serializer[Any]):
    done = serializers.IntegerField()
    total = serializers.IntegerField()
    percent = serializers.IntegerField()


class RunPlanOut(serializers.Serializer[Any]):
    progress = ProgressOut()
    rounds = PlannedRoundOut(many=True)


class SavedPlanBody(Strict):
    name = Slug(help_text="Of the new workflow, a draft in the run's project.")
    step = Text(required=False, help_text="The planner's, where several have planned.")


class RunQuery(Query):
    """`metadata.KEY=value` narrows by metadata."""

    status = serializers.MultipleChoiceField(choices=RUN_STATUSES, required=False)
    workflow = reference(required=False)
    project = reference(required=False)
    created_after = serializers.DateTimeField(required=False)
    created_before = serializers.DateTimeField(required=False)
    batch = serializers.UUIDField(required=False)

    def takes(self, name: str) -> bool:
        return name.startswith(METADATA_PREFIX) or super().takes(name)

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        values: dict[str, Any] = super().to_internal_value(data)
        metadata = {
            name.removeprefix(METADATA_PREFIX): value
            for name, value in data.items()
            if name.startswith(METADATA_PREFIX)
        }
        for key, value in metadata.items():
            if "\0" in key + value:
                problem = ErrorDetail("Null characters are not allowed.", "null_characters")
                raise serializers.ValidationError({METADATA_PREFIX + key: [problem]})
        return {**values, "metadata": metadata}


class AgentRunQuery(Query):
    status = serializers.MultipleChoiceField(choices=AGENT_RUN_STATUSES, required=False)
    waiting_for = serializers.MultipleChoiceField(choices=WAITING_REASONS, required=False)


class RunWorkflowOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    version = serializers.IntegerField()


class RunLinksOut(serializers.Serializer[Any]):
    self = serializers.URLField()
    events = serializers.URLField()
    output = serializers.URLField()
    page = serializers.URLField()
    replay_of = serializers.URLField(allow_null=True, help_text="The run that it replays.")
    batch = serializers.URLField(allow_null=True, help_text="The batch that it was started in.")


class StarterOut(serializers.Serializer[Any]):
    kind = serializers.CharField()
    id = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]  # the name of a field


class TokensOut(serializers.Serializer[Any]):
    input = serializers.IntegerField()
    output = serializers.IntegerField()
    cached = serializers.IntegerField(help_text="Contained in input.")
    reasoning = serializers.IntegerField(help_text="Contained in output.")
    total = serializers.IntegerField()


class RunOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    status = serializers.ChoiceField(RUN_STATUSES)
    status_reason = serializers.CharField(source="reason", help_text="One sentence why.")
    workflow = serializers.SerializerMethodField()
    project = ProjectRef()
    priority = serializers.IntegerField()
    metadata = serializers.DictField()
    started_by = StarterOut()
    cost_usd = serializers.SerializerMethodField()
    max_cost_usd = Usd(
        source="max_cost_nano", allow_null=True, help_text="What it may cost, with what it runs."
    )
    saved_usd = Usd(source="saved_nano", help_text="What a replay did not have to pay again.")
    replay_of = serializers.UUIDField(source="replay_of_id", allow_null=True)
    batch = serializers.UUIDField(source="batch_id", allow_null=True)
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    deadline_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    links = serializers.SerializerMethodField()

    def get_workflow(self, run: Run) -> RunWorkflowOut:
        facts = {
            "id": run.workflow_id,
            "name": run.workflow.name,
            "version": run.version.number,
        }
        return RunWorkflowOut(facts).data  # type: ignore[return-value]

    def get_cost_usd(self, run: Run) -> str:
        # A run that was only just made was not selected, and has cost nothing.
        return format_usd(getattr(run, "cost", 0))

    def get_links(self, run: Run) -> RunLinksOut:
        request = self.context["request"]
        ids = {"id": run.id}
        return {  # type: ignore[return-value]
            "self": reverse("runs-detail", kwargs=ids, request=request),
            "events": reverse("runs-events", kwargs=ids, request=request),
            "output": reverse("runs-output", kwargs=ids, request=request),
            "page": reverse("admin:orchestrator_run_change", args=[run.id], request=request),
            "replay_of": _link("runs-detail", run.replay_of_id, request),
            "batch": _link("batches-detail", run.batch_id, request),
        }


def _link(route: str, id: UUID | None, request: Request) -> str | None:
    return reverse(route, kwargs={"id": id}, request=request) if id else None


class WaitOut(serializers.Serializer[Any]):
    reason = serializers.ChoiceField(WAITING_REASONS)
    gate = serializers.CharField(help_text="What holds it, such as a limit or a budget by name.")
    since = serializers.DateTimeField(allow_null=True)
    until = serializers.DateTimeField(
        allow_null=True,
        help_text="When it goes on by itself; null: when somebody acts, or makes room.",
    )


class RunWaitOut(WaitOut):
    reason = serializers.ChoiceField([str(WaitingReason.PAUSED), str(RunWait.TURN)])


class StepSummaryOut(serializers.Serializer[Any]):
    name = serializers.CharField()
    status = serializers.ChoiceField(AGENT_RUN_STATUSES)
    counts = serializers.DictField(
        child=serializers.IntegerField(), help_text="Its agent runs by state."
    )
    waiting = WaitOut(allow_null=True, help_text="The wait that is over first.")
    cost_usd = Usd(source="cost_nano")


class ReplayOut(serializers.Serializer[Any]):
    of = serializers.UUIDField(
        allow_null=True, help_text="The run whose outputs it reuses; null once that is deleted."
    )
    from_step = serializers.CharField()
    overrides = serializers.DictField(help_text="What its steps were set to instead, by step.")
    reused = serializers.ListField(child=serializers.CharField(), help_text="Names of the steps.")
    saved_usd = Usd(source="saved_nano", help_text="What their outputs had cost.")


class RunDetail(RunOut):
    replay = ReplayOut(allow_null=True, help_text="Of a run that replays another one.")
    waiting = RunWaitOut(
        source="wait", allow_null=True, help_text="What holds the run as a whole, if anything."
    )
    steps = StepSummaryOut(many=True)
    tokens = TokensOut()
    input = serializers.JSONField()
    output = serializers.JSONField(allow_null=True)


class AttemptOut(serializers.Serializer[Any]):
    number = serializers.IntegerField()
    outcome = serializers.CharField(
        help_text="`lost`: its worker stopped renewing its lease. `handed_over`: it was to end."
    )
    worker = serializers.CharField()
    error = serializers.JSONField(allow_null=True)
    started_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField()


class AgentRunOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    step = serializers.CharField()
    level = serializers.IntegerField()
    status = serializers.ChoiceField(AGENT_RUN_STATUSES)
    status_reason = serializers.CharField()
    waiting = WaitOut(source="wait", allow_null=True, help_text="What holds it, while it waits.")
    agent = serializers.CharField()
    role = serializers.CharField()
    provider = serializers.CharField()
    model = serializers.CharField()
    attempt = serializers.IntegerField(help_text="The number of the latest; 0 before the first.")
    attempts = AttemptOut(many=True, source="attempts.all", help_text="Those that have ended.")
    worker = serializers.CharField()
    llm_calls = serializers.IntegerField()
    tokens = serializers.SerializerMethodField()
    cost_usd = Usd(source="cost_nano")
    reused_from = serializers.UUIDField(
        allow_null=True, help_text="The agent run of an earlier run whose output this is."
    )
    saved_usd = Usd(source="saved_nano", help_text="What that output had cost.")
    prompt = serializers.CharField(allow_null=True)
    output = serializers.JSONField(allow_null=True)
    error = serializers.JSONField(allow_null=True)
    queued_at = serializers.DateTimeField(allow_null=True)
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)

    def get_tokens(self, agent_run: AgentRun) -> TokensOut:
        counted = {kind: getattr(agent_run, f"{kind}_tokens") for kind in TOKENS}
        return with_total(counted)  # type: ignore[return-value]


class EventQuery(Query):
    after = serializers.IntegerField(
        required=False,
        default=0,
        min_value=0,
        max_value=_MAX_BIGINT,
        help_text="The id of the last event that you have.",
    )


class EventOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    type = serializers.CharField()
    timestamp = serializers.DateTimeField(source="at")
    data = serializers.SerializerMethodField()  # type: ignore[assignment]  # the name of a field

    def get_data(self, event: RunEvent) -> dict[str, Any]:
        return event_data(event)


class EventList(serializers.Serializer[Any]):
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    results = EventOut(many=True)


def event_data(event: RunEvent) -> dict[str, Any]:
    """What the event tells, with its run and with money in USD."""
    facts: Mapping[str, Any] = event.data
    told = {key: value for key, value in facts.items() if not key.endswith(_NANO)}
    for key in facts.keys() - told.keys():
        told[key.removesuffix(_NANO) + "_usd"] = format_usd(facts[key])
    ids = {"run_id": str(event.run_id)}
    if event.agent_run_id:
        ids["agent_run_id"] = str(event.agent_run_id)
    return {**ids, **told}


def after_link(request: Request, event_id: int, limit: int) -> str:
    address = request.build_absolute_uri(request.path)
    return f"{address}?{urlencode({'after': event_id, 'limit': limit})}"
