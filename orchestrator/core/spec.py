"""WorkflowSpec: the one definition behind YAML, REST, the admin's rows and the Python builder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, PrivateAttr, Tag

from agents_app.core.types.prompt import MAX_REPAIRS
from orchestrator.core.values import (
    AnyJson,
    Condition,
    Duration,
    JsonObject,
    Label,
    LiteralText,
    Money,
    Name,
    Ratio,
    Slug,
    Text,
    WorkflowRef,
)

FORMAT_VERSION: Final = 1
MAX_STEPS = 20_000
DEFAULT_PRIORITY = 5
# A model's name that leaves the choice to how complex the prompt is.
BY_COMPLEXITY: Final = "auto"

AgentType = Literal[
    "prompt",
    "tool",
    "aggregator",
    "react",
    "planner",
    "pattern_planner",
    "evaluator",
    "router",
    "custom",
]
Role = Literal["orchestrator", "planner", "executor", "reviewer"]
Strategy = Literal["sequential", "levels", "adaptive"]
StepKind = Literal["agent", "workflow", "loop", "approval", "delay"]
STEP_KINDS: tuple[StepKind, ...] = ("agent", "workflow", "loop", "approval", "delay")

_OF_EVERY_AGENT = frozenset({"type", "role", "output_schema"})
_OF_MODELS = {"provider", "model", "system", "prompt", "parameters"}
_OF_THINKING = _OF_EVERY_AGENT | _OF_MODELS | {"tools", "memory"}
# They have a form of answer of their own, and call no tools.
_OF_JUDGING = {"type", "role", "repairs", *_OF_MODELS}
_OF_DELEGATING = frozenset({"delegates", "workflows", "delegate_cost_usd"})
_OF_PLANNING = frozenset(
    {"max_tasks", "approve", "approve_above_usd", "objective", "role_models", "report"}
)
_OF_LOOPS = frozenset({"max_turns", "max_total_tokens", "repairs"})
FIELDS_OF_AGENT: Mapping[str, frozenset[str]] = {
    "prompt": _OF_THINKING - {"tools"} | {"repairs"},
    "react": _OF_THINKING | _OF_DELEGATING | _OF_LOOPS,
    "planner": _OF_THINKING | _OF_DELEGATING | _OF_PLANNING | {"max_turns", "max_total_tokens"},
    "pattern_planner": _OF_EVERY_AGENT | _OF_DELEGATING | _OF_PLANNING | {"prompt", "tools"},
    "evaluator": frozenset(_OF_JUDGING | {"criteria", "threshold"}),
    "router": frozenset(_OF_JUDGING | {"routes"}),
    "custom": _OF_THINKING | {"implementation", "arguments", "max_turns"},
    "tool": _OF_EVERY_AGENT | {"tool", "arguments"},
    "aggregator": _OF_EVERY_AGENT | {"mode", "separator"},
}


WITHOUT_MODEL: Final = frozenset({"tool", "aggregator", "pattern_planner"})
# Without a prompt they look at what the steps give that they need.
JUDGING: Final = frozenset({"evaluator", "router"})


class Part(BaseModel):
    # Strict, because a number that was read from text would not be written back as text.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class RetrySpec(Part):
    """`attempts` counts all tries, the first included."""

    strategy: Literal["immediate", "constant", "linear", "exponential"] = "exponential"
    attempts: Annotated[int, Field(ge=1, le=20)] = 3
    base: Duration = Duration("2s")
    factor: Annotated[float, Field(ge=1, le=100)] = 2
    cap: Duration = Duration("60s")
    jitter: bool = True


class ModelChoice(Part):
    provider: Slug
    model: Label


class AgentSpec(Part):
    """An agent described in place, or the content of a saved one."""

    type: AgentType
    role: Role | None = None
    provider: Slug | None = None
    model: Label | None = None
    system: LiteralText | None = None
    prompt: Text | None = None
    tools: list[Label] | None = None
    parameters: JsonObject | None = None
    output_schema: JsonObject | None = None
    tool: Label | None = None  # type tool: the registered function
    arguments: JsonObject | None = None  # type tool: may hold variables
    mode: Literal["collect", "concat", "merge"] | None = None  # type aggregator
    separator: Annotated[str, Field(max_length=1_000)] | None = None  # mode concat
    criteria: LiteralText | None = None  # type evaluator
    threshold: Ratio | None = None  # type evaluator: the least score that is accepted
    routes: Annotated[list[Name], Field(min_length=1, max_length=100)] | None = None  # router
    max_turns: Annotated[int, Field(ge=1, le=1_000)] | None = None  # types that loop
    max_total_tokens: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None  # types that loop
    # Further turns for an answer that does not fit its form.
    repairs: Annotated[int, Field(ge=0, le=MAX_REPAIRS)] | None = None
    delegates: list[Slug] | None = None  # saved agents that it may hand tasks to
    workflows: list[WorkflowRef] | None = None  # published ones, likewise
    delegate_cost_usd: Money | None = None  # what each of these may cost
    max_tasks: Annotated[int, Field(ge=1, le=200)] | None = None  # types that plan
    approve: bool | None = None  # whether a person is asked before a plan is carried out
    approve_above_usd: Money | None = None  # or only where it may cost more
    objective: Text | None = None  # what patterns read, where the prompt says more
    role_models: dict[Role, ModelChoice] | None = None  # of agents made for tasks
    report: bool | None = None  # whether it gives its tasks beside its answer
    memory: JsonObject | None = None  # what `MemorySettings` reads
    implementation: Label | None = None  # type custom: its registered name


class MapSpec(Part):
    """One agent run per item of the list, gathered in order."""

    over: Text
    max_items: Annotated[int, Field(ge=1, le=100_000)] | None = None
    parallel: Annotated[int, Field(ge=1, le=10_000)] | None = None
    allow_failed: Ratio = 0.0


class LoopSpec(Part):
    """A small workflow that repeats until the condition holds."""

    steps: list[StepSpec]
    until: Condition
    max_rounds: Annotated[int, Field(ge=1, le=1_000)]
    on_exhausted: Literal["continue", "fail"] = "fail"
    output: AnyJson = None


class Approvers(Part):
    roles: Annotated[list[Literal["owner", "admin", "editor", "viewer"]], Field(min_length=1)]
    exclude_requester: bool = False


class ApprovalSpec(Part):
    question: Text
    show: AnyJson = None
    approvers: Approvers | None = None
    form: JsonObject | None = None
    expires: Duration | None = None
    on_expire: Literal["approve", "reject", "fail"] = "reject"
    on_reject: Literal["skip", "fail", "continue"] = "skip"


class ByCapability(Part):
    """Whichever agent has it and is least busy when the step begins."""

    capability: Slug


def _agent_tag(value: object) -> str:
    if isinstance(value, str):
        return "slug"
    is_open = isinstance(value, ByCapability) or (isinstance(value, dict) and "capability" in value)
    return "open" if is_open else "inline"


class CacheSpec(Part):
    """For how long an answer may be taken again."""

    ttl: Duration


class BatchSpec(Part):
    """For how long a step waits for the answer of a batch."""

    within: Duration


class StepSpec(Part):
    """One vertex of the graph. Exactly one of the kinds stands in it."""

    name: Name
    description: Text = ""
    needs: list[Name] = Field(default_factory=list)
    when: Condition | None = None
    join: Literal["all", "any"] = "all"
    optional: bool = False
    priority: Annotated[int, Field(ge=0, le=10)] | None = None
    map: MapSpec | None = None

    agent: (
        Annotated[
            Annotated[Slug, Tag("slug")]
            | Annotated[AgentSpec, Tag("inline")]
            | Annotated[ByCapability, Tag("open")],
            Discriminator(_agent_tag),
        ]
        | None
    ) = None
    prompt: Text | None = None
    system: LiteralText | None = None
    provider: Slug | None = None
    model: Label | None = None
    tools: list[Label] | None = None
    parameters: JsonObject | None = None
    arguments: JsonObject | None = None
    output_schema: JsonObject | None = None
    memory: JsonObject | None = None
    retry: RetrySpec | None = None
    timeout: Duration | None = None
    max_wait: Duration | None = None
    max_cost_usd: Money | None = None
    fallback: list[ModelChoice] | None = None
    cache: bool | CacheSpec = False
    batch: bool | BatchSpec = False
    adds_steps: bool = False

    workflow: WorkflowRef | None = None
    input: AnyJson = None
    loop: LoopSpec | None = None
    approval: ApprovalSpec | None = None
    delay: Duration | None = None

    @property
    def kind(self) -> StepKind:
        return next(kind for kind in STEP_KINDS if getattr(self, kind) is not None)


class FailurePolicy(Part):
    """What a failed step means for its run."""

    mode: Literal["fail_fast", "partial"] = "fail_fast"
    critical_priority: Annotated[int, Field(ge=0, le=10)] = 8
    max_failed_ratio: Ratio = 0.5


class Defaults(Part):
    """What a step takes when neither it nor its agent says otherwise."""

    provider: Slug | None = None
    model: Label | None = None
    parameters: JsonObject | None = None
    timeout: Duration | None = None
    max_wait: Duration | None = None
    retry: RetrySpec | None = None
    priority: Annotated[int, Field(ge=0, le=10)] | None = None
    max_cost_usd: Money | None = None
    fallback: list[ModelChoice] | None = None


class Ask(Part):
    roles: Annotated[list[Literal["owner", "admin", "editor", "viewer"]], Field(min_length=1)]
    expires: Duration | None = None


class DegradeRule(Part):
    """What to give up once this share of the run's cost limit is spent or held."""

    at: Ratio
    use: ModelChoice | None = None
    map_items: Ratio | None = None
    skip: Literal["optional"] | None = None
    ask: Ask | None = None


class WorkflowSpec(Part):
    """Built by `parsing.spec_from_mapping`, which also keeps what its author wrote."""

    muster: Literal[1] = FORMAT_VERSION
    name: Slug
    description: Text = ""
    module: Label | None = None  # business area, such as finance
    strategy: Strategy = "levels"
    max_parallel: Annotated[int, Field(ge=1, le=10_000)] | None = None
    max_runs: Annotated[int, Field(ge=1, le=10_000)] | None = None
    deadline: Duration | None = None
    max_cost_usd: Money | None = None
    failure: FailurePolicy = FailurePolicy()
    inputs: JsonObject | None = None
    defaults: Defaults = Defaults()
    steps: Annotated[list[StepSpec], Field(min_length=1, max_length=MAX_STEPS)]
    degrade: list[DegradeRule] | None = None
    output: AnyJson = None

    _written: JsonObject = PrivateAttr(default_factory=dict)

    @property
    def written(self) -> JsonObject:
        """What the author wrote, `steps` as a list. `parsing.spec_to_mapping` gives a copy."""
        return self._written

    def remember(self, written: JsonObject) -> None:
        self._written = written
