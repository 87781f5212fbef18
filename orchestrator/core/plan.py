"""A spec compiled for the engine, and the one decision about what may start next."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from pydantic import TypeAdapter

from orchestrator.core import graph
from orchestrator.core.config import AgentConfig, agent_of, step_config
from orchestrator.core.errors import CyclicWorkflowError
from orchestrator.core.jsonvalue import Json
from orchestrator.core.spec import DEFAULT_PRIORITY, FailurePolicy, StepSpec, WorkflowSpec
from orchestrator.core.state import AgentRunStatus
from orchestrator.core.template import references
from orchestrator.core.values import AnyJson, JsonObject

DEFAULT_TIMEOUT_SECONDS = 30
_WITHOUT_MODEL: Final = frozenset({"tool", "aggregator"})
_TEMPLATED: Final = ("prompt", "arguments")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """A step with all that running it takes; nothing is left to look up in the spec."""

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


@dataclass(frozen=True, kw_only=True)
class Plan:
    steps: tuple[PlannedStep, ...]
    strategy: str
    max_parallel: int | None
    failure: FailurePolicy
    output: AnyJson  # the declared output mapping
    output_reads: tuple[str, ...]  # what the run's output is assembled from
    exits: tuple[str, ...]

    def step(self, name: str) -> PlannedStep:
        return self._by_name[name]

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

    @cached_property
    def _by_name(self) -> dict[str, PlannedStep]:
        return {step.name: step for step in self.steps}


def compile_plan(spec: WorkflowSpec, agents: Mapping[str, AgentConfig]) -> Plan:
    """The plan of a spec that was found valid. Saved agents are copied into it."""
    needs = {step.name: step.needs for step in spec.steps}
    level_of = _levels(needs, strategy=spec.strategy)
    exits = tuple(graph.exit_steps(needs))
    read = _steps_read([spec.output], order=needs)
    return Plan(
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
    )


def _planned(
    step: StepSpec,
    *,
    spec: WorkflowSpec,
    agents: Mapping[str, AgentConfig],
    position: int,
    level: int,
) -> PlannedStep:
    agent = agent_of(step, agents) or {}
    config = step_config(step, agent=agent, defaults=spec.defaults)
    kind = str(config.get("type"))
    timeout = step.timeout or spec.defaults.timeout
    known = (step.priority, spec.defaults.priority, DEFAULT_PRIORITY)
    given = [config.get(name) for name in _TEMPLATED]
    templates = _steps_read(given, order=())
    return PlannedStep(
        name=step.name,
        position=position,
        level=level,
        needs=tuple(step.needs),
        reads=tuple(step.needs) if kind == "aggregator" else templates,
        reads_input=any(path.split(".")[0] == "input" for path in references(given)),
        priority=next(priority for priority in known if priority is not None),
        timeout_seconds=timeout.seconds if timeout else DEFAULT_TIMEOUT_SECONDS,
        agent=step.agent if isinstance(step.agent, str) else kind,
        uses_model=kind not in _WITHOUT_MODEL,
        role=_text(config.get("role")),
        provider=_text(config.get("provider")),
        model=_text(config.get("model")),
        config=config,
    )


def _text(value: Json) -> str | None:
    return value if isinstance(value, str) else None


def _steps_read(values: list[Json], *, order: Iterable[str]) -> tuple[str, ...]:
    """Names of the steps that templates refer to, in `order` if that is known, else by name."""
    paths = (path.split(".") for path in references(values))
    names = {path[1] for path in paths if path[0] == "steps"}
    ordered = [name for name in order if name in names]
    return tuple(ordered or sorted(names))


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


def plan_to_json(plan: Plan) -> JsonObject:
    written: JsonObject = _PLAN.dump_python(plan, mode="json")
    return written


def plan_from_json(data: Mapping[str, Json]) -> Plan:
    return _PLAN.validate_python(data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is: per level how many steps are unsettled, and which did not complete."""

    unsettled: Mapping[int, int]  # a level that is not named has none
    pending: Mapping[int, int]  # those among them that were not handed out yet
    failed: frozenset[str] = frozenset()
    skipped: frozenset[str] = frozenset()
    cancelled: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls,
        unsettled: Mapping[str, Mapping[str, int]] | None,
        not_completed: Mapping[str, str] | None,
    ) -> Progress:
        """From what the database counts: states per level, and the state of the others by step."""
        levels = {int(level): states for level, states in (unsettled or {}).items()}
        by_status: dict[str, set[str]] = {}
        for name, status in (not_completed or {}).items():
            by_status.setdefault(status, set()).add(name)
        stopped = by_status.get(AgentRunStatus.BUDGET_EXCEEDED, set())
        return cls(
            unsettled={level: sum(states.values()) for level, states in levels.items()},
            pending={
                level: states.get(AgentRunStatus.PENDING, 0) for level, states in levels.items()
            },
            failed=frozenset(by_status.get(AgentRunStatus.FAILED, set()) | stopped),
            skipped=frozenset(by_status.get(AgentRunStatus.SKIPPED, set())),
            cancelled=frozenset(by_status.get(AgentRunStatus.CANCELLED, set())),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do now. With nothing to do, the run waits for steps that are at work."""

    dispatch: tuple[str, ...] = ()  # of one level, the most urgent first
    level: int | None = None  # of the dispatched steps
    skip: Mapping[str, str] = field(default_factory=dict)  # step -> one sentence why
    stop_in_flight: bool = False  # what still works would change nothing any more
    is_settled: bool = False  # once the skips are written, nothing is left to do


def ready(plan: Plan, progress: Progress) -> Decision:
    """What may start now: the next level, once all levels below are settled.

    Repeating a decision is harmless: only what is still pending can be handed out or skipped.
    """
    if progress.failed and plan.failure.mode == "fail_fast":
        return _stopped(plan, progress)
    blocked = progress.failed | progress.skipped | progress.cancelled
    skip: dict[str, str] = {}
    for level, steps in enumerate(plan.levels):
        if not progress.unsettled.get(level):
            continue
        if not progress.pending.get(level):
            return Decision(skip=skip)
        skipped = _skips(steps, blocked=blocked)
        skip |= skipped
        blocked |= skipped.keys()
        dispatch = tuple(step.name for step in steps if step.name not in blocked)
        if dispatch:
            return Decision(dispatch=dispatch, level=level, skip=skip)
    return Decision(skip=skip, is_settled=True)


def _skips(steps: Sequence[PlannedStep], *, blocked: frozenset[str]) -> dict[str, str]:
    """Steps that a need keeps from running. Every skip so far goes back to a failure."""
    if not blocked:
        return {}
    culprits = ((step, next((n for n in step.needs if n in blocked), None)) for step in steps)
    return {
        step.name: f"It needs `{culprit}`, which did not complete"
        for step, culprit in culprits
        if culprit is not None and step.name not in blocked
    }


def _stopped(plan: Plan, progress: Progress) -> Decision:
    culprit = min(progress.failed, key=lambda name: plan.step(name).position)
    reason = f"`{culprit}` failed, and the workflow fails fast"
    settled = progress.failed | progress.skipped | progress.cancelled
    skip = {
        step.name: reason
        for level, steps in enumerate(plan.levels)
        if progress.pending.get(level)
        for step in steps
        if step.name not in settled
    }
    in_flight = sum(progress.unsettled.values()) - sum(progress.pending.values())
    return Decision(skip=skip, stop_in_flight=in_flight > 0, is_settled=in_flight == 0)
