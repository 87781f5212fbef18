"""A spec compiled for the engine: steps with all that running them takes."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final, Literal

from pydantic import TypeAdapter

from costs.core.money import nano_from_usd
from orchestrator.core import graph
from orchestrator.core.conditions import compile_condition
from orchestrator.core.config import (
    AgentConfig,
    agent_of,
    defaults_written,
    merged,
    step_config,
    step_written,
)
from orchestrator.core.errors import CyclicWorkflowError
from orchestrator.core.jsonvalue import Json
from orchestrator.core.problems import pointer
from orchestrator.core.spec import (
    DEFAULT_PRIORITY,
    JUDGING,
    WITHOUT_MODEL,
    ApprovalSpec,
    BatchSpec,
    ByCapability,
    CacheSpec,
    Defaults,
    DegradeRule,
    FailurePolicy,
    LoopSpec,
    MapSpec,
    ModelChoice,
    RetrySpec,
    StepKind,
    StepSpec,
    WorkflowSpec,
)
from orchestrator.core.template import references
from orchestrator.core.values import AnyJson, JsonObject, Money

DEFAULT_TIMEOUT_SECONDS = 30
DEFAULT_CACHE_SECONDS = 86_400
# A little longer than providers take for a batch at most, which is a day.
DEFAULT_BATCH_SECONDS = 90_000
# At most so many agent runs of a run are in flight; wider levels follow as places come free.
MAX_WINDOW: Final = 1000
# So deep runs may stand below each other.
MAX_DEPTH: Final = 8
_PLANNING: Final = frozenset({"planner", "pattern_planner"})
_TEMPLATED: Final = ("prompt", "objective", "arguments")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """A step with all that running it takes; nothing is left to look up in the spec.

    Plans are kept with their versions: a new field needs a default, which older plans take.
    """

    name: str
    position: int  # in the author's order
    level: int  # dispatched once every level below is settled
    needs: tuple[str, ...]
    reads: tuple[str, ...]  # steps whose outputs its templates or its aggregation use
    reads_input: bool
    priority: int
    timeout_seconds: int
    agent: str  # a saved agent's slug, or the type of one described in place
    uses_model: bool
    role: str | None
    provider: str | None
    model: str | None
    config: JsonObject  # the agent, overlaid by the step
    kind: StepKind = "agent"
    join: Literal["all", "any"] = "all"
    when: str | None = None
    optional: bool = False  # the ladder of its workflow may skip it, or cut its map down
    when_reads: tuple[str, ...] = ()  # steps whose outputs the condition uses
    retry: RetrySpec | None = None  # None: as the platform is set
    delay_seconds: int = 0
    approval: ApprovalSpec | None = None
    map: MapSpec | None = None
    map_reads: tuple[str, ...] = ()  # steps whose outputs the list is made of
    loop: LoopPlan | None = None
    call: WorkflowCall | None = None
    adds_steps: bool = False
    is_heavy: bool = False  # a tool of it takes a processor for itself
    by_complexity: Mapping[str, str] = field(default_factory=dict)  # the model for each, if any
    max_cost_nano: int | None = None  # of each of its agent runs, or of the run that it starts
    max_wait_seconds: int | None = None  # for limits and budgets; None: as the platform is set
    fallback: tuple[ModelChoice, ...] = ()  # asked in turn once its own model is given up
    cache_seconds: int | None = None  # how old an answer may be that is taken again
    batch_seconds: int | None = None  # how long it waits for the answers of batches
    previous_reads: tuple[str, ...] = ()  # steps of the loop's last round that its templates use
    marked: tuple[str, ...] = ()  # what its prompt holds of tools, see `core.marking`
    choice: Choice | None = None  # of its agent, where it names a capability instead
    # What the statement that records its completion does on its own (`adaptive` only):
    next_steps: tuple[str, ...] = ()  # start these, which need nothing else
    gates: tuple[int, ...] = ()  # lower these counters
    tells: bool = False  # ask `advance`, which knows more than counting

    @property
    def is_plain(self) -> bool:
        """Whether it starts once all its needs have completed, and nothing else is to be asked."""
        return self.is_single and self.join == "all" and self.when is None and not self.optional

    @property
    def grows(self) -> bool:
        """Whether it may add steps to its run: all that its agent gives, or what it delegates."""
        return self.adds_steps or self.delegates

    @property
    def delegates(self) -> bool:
        if self.choice is not None:
            return any(each.delegates for each in self.choice.candidates)
        config = self.config
        to_others = config.get("delegates") or config.get("workflows")
        return config.get("type") in _PLANNING or bool(to_others)

    @property
    def is_single(self) -> bool:
        """Whether it is one agent run that a worker takes."""
        return self.kind == "agent" and self.map is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """How an agent that has the capability is set, and the step with each that did at publishing.

    Which of them takes the step is chosen when it begins, among those that have it then.
    """

    capability: str
    defaults: JsonObject  # those of the workflow
    own: JsonObject  # what the step sets
    candidates: tuple[PlannedStep, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A counter of needs that several steps share, so that 100 x 100 needs are 200 edges."""

    number: int
    needs: int  # how many have to complete
    steps: tuple[str, ...]  # start then
    tells: bool = False  # ask `advance` then


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowCall:
    """The version of a workflow that a step runs as a run of its own, and what it gets."""

    workflow: str
    version: int
    version_id: str
    input: AnyJson = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopPlan:
    """A body that runs, round after round, until its condition holds."""

    body: Plan
    until: str
    until_reads: tuple[str, ...]
    max_rounds: int
    on_exhausted: Literal["continue", "fail"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    steps: tuple[PlannedStep, ...]
    strategy: str
    max_parallel: int | None
    failure: FailurePolicy
    output: AnyJson  # the declared output mapping
    output_reads: tuple[str, ...]  # what the run's output is assembled from
    exits: tuple[str, ...]
    deadline_seconds: int | None = None
    max_runs: int | None = None  # of the workflow, under way at a time
    max_cost_nano: int | None = None  # of a run
    degrade: tuple[DegradeRule, ...] = ()  # what its runs give up at shares of that
    gates: tuple[Gate, ...] = ()

    def step(self, name: str) -> PlannedStep:
        """The step of a name, or of an agent run's place (see `core.places`)."""
        outer, _, inner = name.partition(".")
        step = self._by_name[outer.partition("[")[0]]
        return step.loop.body.step(inner) if inner and step.loop else step

    def with_steps(self, change: Callable[[PlannedStep], PlannedStep]) -> Plan:
        """The plan with every step changed, those of loops too, and each way to run an open one."""
        return replace(self, steps=tuple(change(_inside(step, change)) for step in self.steps))

    @property
    def window(self) -> int:
        """How many agent runs of a run may be in flight."""
        return min(self.max_parallel or MAX_WINDOW, MAX_WINDOW)

    @property
    def fixed_window(self) -> int | None:
        """What bounds the agent runs in flight where their number is not known beforehand."""
        is_open = any(step.map or step.loop or step.grows for step in self.steps)
        return self.max_parallel if is_open else None

    @property
    def chooses(self) -> bool:
        """Whether there are steps that name a capability, in its loops too."""
        return any(step.choice or (step.loop and step.loop.body.chooses) for step in self.steps)

    @cached_property
    def gathers(self) -> bool:
        """Whether steps may stand for others: maps, loops, sub-workflows, and who adds steps."""
        return any(step.map or step.loop or step.call or step.grows for step in self.steps)

    @cached_property
    def has_calls(self) -> bool:
        """Whether there may be sub-workflows among its steps, in their loops, or added to them."""
        return any(
            step.call or step.grows or (step.loop and step.loop.body.has_calls)
            for step in self.steps
        )

    @cached_property
    def levels(self) -> tuple[tuple[PlannedStep, ...], ...]:
        """Steps by level, the most urgent first."""
        found: list[list[PlannedStep]] = []
        for step in sorted(
            self.steps, key=lambda step: (step.level, -step.priority, step.position)
        ):
            if step.level == len(found):
                found.append([])
            found[step.level].append(step)
        return tuple(map(tuple, found))

    @property
    def names(self) -> Collection[str]:
        return self._by_name.keys()

    @cached_property
    def _by_name(self) -> dict[str, PlannedStep]:
        return {step.name: step for step in self.steps}


def _inside(step: PlannedStep, change: Callable[[PlannedStep], PlannedStep]) -> PlannedStep:
    if step.choice is not None:
        each = tuple(change(candidate) for candidate in step.choice.candidates)
        return replace(step, choice=replace(step.choice, candidates=each))
    if step.loop is None:
        return step
    return replace(step, loop=replace(step.loop, body=step.loop.body.with_steps(change)))


def compile_plan(
    spec: WorkflowSpec,
    agents: Mapping[str, AgentConfig],
    workflows: Mapping[str, WorkflowCall] | None = None,
) -> Plan:
    """The plan of a spec that was found valid.

    Saved agents are copied into it, and sub-workflows pinned: `workflows` has the version for
    each reference as it is written.
    """
    plan = _compiled(spec, agents)
    return plan.with_steps(lambda step: _pinned(step, workflows or {}))


def _pinned(step: PlannedStep, workflows: Mapping[str, WorkflowCall]) -> PlannedStep:
    if step.call is None:
        return step
    return replace(step, call=replace(workflows[step.call.workflow], input=step.call.input))


def _compiled(spec: WorkflowSpec, agents: Mapping[str, AgentConfig]) -> Plan:
    needs = {step.name: step.needs for step in spec.steps}
    level_of = _levels(needs, strategy=spec.strategy)
    exits = tuple(graph.exit_steps(needs))
    read = _steps_read([spec.output], order=needs)
    plan = Plan(
        steps=tuple(
            _planned(step, spec=spec, agents=agents, position=position, level=level_of[step.name])
            for position, step in enumerate(spec.steps)
        ),
        strategy=spec.strategy,
        max_parallel=spec.max_parallel,
        failure=spec.failure,
        output=spec.output,
        output_reads=exits if spec.output is None else read,
        exits=exits,
        deadline_seconds=spec.deadline.seconds if spec.deadline else None,
        max_runs=spec.max_runs,
        max_cost_nano=_nano(spec.max_cost_usd),
        degrade=tuple(spec.degrade or ()),
    )
    return _counted(plan) if spec.strategy == "adaptive" else plan


def _planned(
    step: StepSpec,
    *,
    spec: WorkflowSpec,
    agents: Mapping[str, AgentConfig],
    position: int,
    level: int,
) -> PlannedStep:
    agent = agent_of(step, agents) or {}
    config = step_config(step, agent=agent, defaults=spec.defaults) if step.agent else {}
    kind = str(config.get("type", step.kind))
    timeout = step.timeout or spec.defaults.timeout
    max_wait = step.max_wait or spec.defaults.max_wait
    known = (step.priority, spec.defaults.priority, DEFAULT_PRIORITY)
    given = _given(step, config)
    reads, reads_input = _reads(given, config, needs=step.needs)
    choice = _choice(step, spec.defaults)
    if choice is not None:
        # What its agent reads beyond what it says itself is not known yet.
        reads, reads_input = tuple(dict.fromkeys([*step.needs, *reads])), True
    uses_model = step.kind == "agent" and kind not in WITHOUT_MODEL
    return PlannedStep(
        name=step.name,
        position=position,
        level=level,
        needs=tuple(dict.fromkeys(step.needs)),
        reads=reads,
        reads_input=reads_input,
        priority=next(priority for priority in known if priority is not None),
        timeout_seconds=timeout.seconds if timeout else DEFAULT_TIMEOUT_SECONDS,
        agent=_label(step, kind),
        uses_model=uses_model,
        role=_text(config.get("role")),
        provider=_text(config.get("provider")),
        model=_text(config.get("model")),
        config=config,
        kind=step.kind,
        join=step.join,
        when=step.when,
        optional=step.optional,
        when_reads=tuple(sorted(compile_condition(step.when).steps)) if step.when else (),
        retry=step.retry or spec.defaults.retry,
        delay_seconds=step.delay.seconds if step.delay else 0,
        approval=step.approval,
        map=step.map,
        map_reads=_steps_read([step.map.over], order=()) if step.map else (),
        loop=_looped(step.loop, spec=spec, agents=agents) if step.loop else None,
        call=_called(step),
        adds_steps=step.adds_steps,
        max_cost_nano=_nano(
            step.max_cost_usd or (spec.defaults.max_cost_usd if step.agent else None)
        ),
        max_wait_seconds=max_wait.seconds if max_wait else None,
        fallback=tuple(step.fallback or spec.defaults.fallback or ()) if uses_model else (),
        cache_seconds=_cache_seconds(step.cache) if uses_model else None,
        batch_seconds=_batch_seconds(step.batch) if uses_model else None,
        previous_reads=_previous_read(given),
        choice=choice,
    )


def _choice(step: StepSpec, defaults: Defaults) -> Choice | None:
    if not isinstance(step.agent, ByCapability):
        return None
    return Choice(
        capability=step.agent.capability,
        defaults=defaults_written(defaults),
        own=step_written(step),
    )


def _label(step: StepSpec, kind: str) -> str:
    if isinstance(step.agent, ByCapability):
        return ""
    return step.agent if isinstance(step.agent, str) else kind


def _cache_seconds(cache: bool | CacheSpec) -> int | None:
    if isinstance(cache, CacheSpec):
        return cache.ttl.seconds
    return DEFAULT_CACHE_SECONDS if cache else None


def _batch_seconds(batch: bool | BatchSpec) -> int | None:
    if isinstance(batch, BatchSpec):
        return batch.within.seconds
    return DEFAULT_BATCH_SECONDS if batch else None


def _looped(loop: LoopSpec, *, spec: WorkflowSpec, agents: Mapping[str, AgentConfig]) -> LoopPlan:
    needs = {step.name: step.needs for step in loop.steps}
    level_of = _levels(needs, strategy="adaptive")
    exits = tuple(graph.exit_steps(needs))
    body = Plan(
        steps=tuple(
            _planned(step, spec=spec, agents=agents, position=position, level=level_of[step.name])
            for position, step in enumerate(loop.steps)
        ),
        strategy="adaptive",
        max_parallel=None,
        # A failed step fails its round in the end; the others may still be of use to whoever
        # looks for the reason.
        failure=FailurePolicy(mode="partial"),
        output=loop.output,
        output_reads=exits if loop.output is None else _steps_read([loop.output], order=()),
        exits=exits,
    )
    return LoopPlan(
        body=body,
        until=loop.until,
        until_reads=tuple(sorted(compile_condition(loop.until).steps)),
        max_rounds=loop.max_rounds,
        on_exhausted=loop.on_exhausted,
    )


def with_config(step: PlannedStep, config: JsonObject) -> PlannedStep:
    """The step of an agent with another configuration, and what that reads."""
    given = [config.get(name) for name in _TEMPLATED]
    reads, reads_input = _reads(given, config, needs=step.needs)
    return replace(
        step,
        config=config,
        reads=reads,
        reads_input=reads_input,
        provider=_text(config.get("provider")),
        model=_text(config.get("model")),
    )


def with_agent(step: PlannedStep, choice: Choice, *, name: str, agent: AgentConfig) -> PlannedStep:
    """The step that left its agent open, with this one."""
    config = merged(agent, defaults=choice.defaults, own=choice.own)
    uses_model = config.get("type") not in WITHOUT_MODEL
    return replace(
        with_config(step, config),
        choice=None,
        agent=name,
        role=_text(config.get("role")),
        uses_model=uses_model,
        fallback=step.fallback if uses_model else (),
        cache_seconds=step.cache_seconds if uses_model else None,
        previous_reads=_previous_read([config.get(name) for name in _TEMPLATED]),
    )


def reads_of_open(step: StepSpec) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What a step that leaves its agent open reads itself: steps, and steps of the last round."""
    given = _given(step, step_written(step))
    return _steps_read(given, order=()), _previous_read(given)


def reads_beyond(
    config: AgentConfig,
    *,
    needs: Sequence[str],
    reads: Sequence[str],
    previous_reads: Sequence[str],
) -> list[str]:
    """What an agent reads that its step does not bring along, which is what it needs and reads."""
    given = [config.get(name) for name in _TEMPLATED]
    wanted, _ = _reads(given, config, needs=needs)
    steps = sorted({*wanted} - {*needs, *reads})
    previous = sorted({*_previous_read(given)} - {*previous_reads})
    return [
        *(f"steps.{name}.output" for name in steps),
        *(f"loop.previous.{name}.output" for name in previous),
    ]


def templates_of(step: PlannedStep) -> list[Json]:
    """Whatever in the step may hold variables, conditions aside."""
    over: list[Json] = [step.map.over] if step.map else []
    handed_on = [step.call.input] if step.call else []
    templated = [step.config.get(name) for name in _TEMPLATED]
    return [*templated, *_asked(step.approval), *over, *handed_on]


def _reads(
    given: list[Json], config: AgentConfig, *, needs: Sequence[str]
) -> tuple[tuple[str, ...], bool]:
    """The steps whose outputs an agent run takes, and whether it takes the input."""
    reads_input = any(path.split(".")[0] == "input" for path in references(given))
    if is_given_outputs(config):
        return tuple(needs), reads_input
    return _steps_read(given, order=()), reads_input


def is_given_outputs(config: AgentConfig) -> bool:
    """Whether it takes all that the steps give that it needs, rather than what its prompt says."""
    kind = config.get("type")
    return kind == "aggregator" or (kind in JUDGING and not config.get("prompt"))


def _given(step: StepSpec, config: AgentConfig) -> list[Json]:
    """Whatever in the step and its agent may hold variables, conditions and lists of maps aside."""
    return [*(config.get(name) for name in _TEMPLATED), *_asked(step.approval), step.input]


def _asked(approval: ApprovalSpec | None) -> list[Json]:
    return [approval.question, approval.show] if approval else []


def _counted(plan: Plan) -> Plan:
    """With what a completing step does by itself: what it starts, and which counters it lowers.

    Steps that need the same share one gate; a step with a single need takes none. The last gate
    counts the exits: once all of them have completed, so has the run.
    """
    followers: dict[tuple[str, ...], list[PlannedStep]] = {}
    for step in plan.steps:
        if step.needs:
            followers.setdefault(tuple(sorted(step.needs)), []).append(step)
    edges = _Edges()
    for needs, steps in followers.items():
        edges.add(needs, steps)
    edges.add_gate(plan.exits, (), tells=True)
    return replace(plan, steps=tuple(map(edges.onto, plan.steps)), gates=tuple(edges.gates))


class _Edges:
    """What completing each step does, gathered by the name of the step."""

    def __init__(self) -> None:
        self.gates: list[Gate] = []
        self._next: dict[str, list[str]] = {}
        self._gates_of: dict[str, list[int]] = {}
        self._tellers: set[str] = set()

    def add(self, needs: tuple[str, ...], steps: Sequence[PlannedStep]) -> None:
        plain = tuple(step.name for step in steps if step.is_plain)
        if any(step.join == "any" for step in steps):
            self._tellers.update(needs)
        if len(needs) > 1:
            self.add_gate(needs, plain, tells=len(plain) < len(steps))
            return
        self._next.setdefault(needs[0], []).extend(plain)
        if len(plain) < len(steps):
            self._tellers.add(needs[0])

    def add_gate(self, needs: Sequence[str], steps: tuple[str, ...], *, tells: bool) -> None:
        gate = Gate(number=len(self.gates), needs=len(needs), steps=steps, tells=tells)
        self.gates.append(gate)
        for need in needs:
            self._gates_of.setdefault(need, []).append(gate.number)

    def onto(self, step: PlannedStep) -> PlannedStep:
        return replace(
            step,
            next_steps=tuple(self._next.get(step.name, ())),
            gates=tuple(self._gates_of.get(step.name, ())),
            tells=step.name in self._tellers,
        )


def _nano(amount: Money | None) -> int | None:
    return None if amount is None else nano_from_usd(amount)


def _text(value: Json) -> str | None:
    return value if isinstance(value, str) else None


def _steps_read(values: list[Json], *, order: Iterable[str]) -> tuple[str, ...]:
    """Names of the steps that templates refer to: those of `order` first, the others by name."""
    paths = (path.split(".") for path in references(values))
    names = {path[1] for path in paths if path[0] == "steps"}
    ordered = [name for name in order if name in names]
    return (*ordered, *sorted(names.difference(ordered)))


def workflow_references(spec: WorkflowSpec) -> Iterator[tuple[str, str]]:
    """Every place where another workflow is named, and the name."""
    waiting = [("/steps", spec.steps)]
    while waiting:
        at, steps = waiting.pop()
        for step in steps:
            here = at + pointer(step.name)
            if step.workflow is not None:
                yield here + "/workflow", step.workflow
            if step.loop is not None:
                waiting.append((here + "/loop/steps", step.loop.steps))


def _called(step: StepSpec) -> WorkflowCall | None:
    """Not pinned yet: under the name that its author wrote."""
    if step.workflow is None:
        return None
    return WorkflowCall(workflow=step.workflow, version=0, version_id="", input=step.input)


def _previous_read(values: list[Json]) -> tuple[str, ...]:
    paths = (path.split(".") for path in references(values))
    return tuple(sorted({path[2] for path in paths if path[:2] == ["loop", "previous"]}))


def _levels(needs: Mapping[str, Sequence[str]], *, strategy: str) -> dict[str, int]:
    if strategy == "sequential":
        return {name: level for level, name in enumerate(_one_by_one(needs))}
    of_levels = enumerate(graph.levels(needs))
    return {name: level for level, names in of_levels for name in names}


def _one_by_one(needs: Mapping[str, Sequence[str]]) -> list[str]:
    """Every step after its needs, and as close to the author's order as that allows."""
    names = list(needs)
    place = {name: index for index, name in enumerate(names)}
    left = {name: len(set(of_step)) for name, of_step in needs.items()}
    followers: dict[str, list[str]] = {name: [] for name in names}
    for name, of_step in needs.items():
        for need in set(of_step):
            followers[need].append(name)
    free = [place[name] for name in names if not left[name]]
    order = []
    while free:
        name = names[heapq.heappop(free)]
        order.append(name)
        for follower in followers[name]:
            left[follower] -= 1
            if not left[follower]:
                heapq.heappush(free, place[follower])
    if len(order) < len(names):
        raise CyclicWorkflowError(graph.find_cycle(needs) or ())
    return order


_PLAN: Final = TypeAdapter(Plan)
_STEP: Final = TypeAdapter(PlannedStep)


def plan_to_json(plan: Plan) -> JsonObject:
    written: JsonObject = _PLAN.dump_python(plan, mode="json")
    return written


def plan_from_json(data: Mapping[str, Json]) -> Plan:
    return _PLAN.validate_python(data)


def step_to_json(step: PlannedStep) -> JsonObject:
    written: JsonObject = _STEP.dump_python(step, mode="json", exclude_defaults=True)
    return written


def step_from_json(data: Mapping[str, Json]) -> PlannedStep:
    return _STEP.validate_python(data)
