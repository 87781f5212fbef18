"""The one decision about what may start next: pure, over a plan and how its steps stand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from orchestrator.core.plan import Plan, PlannedStep
from orchestrator.core.state import TERMINAL_AGENT_RUN, AgentRunStatus

_S = AgentRunStatus
_FAILED: Final = frozenset({_S.FAILED, _S.BUDGET_EXCEEDED})
_BAD: Final = _FAILED | {_S.CANCELLED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is, as the database counts it.

    Level by level, `unsettled` has the number of unsettled steps by level and state, and
    `statuses` those that settled without completing, and in a level with pending steps also those
    that have begun. For `adaptive`, `statuses` has every step that is no longer pending.
    `judged` has the conditions that were evaluated: what they gave, or the sentence why they gave
    nothing. `skips` says why optional steps are skipped, where they are.
    """

    statuses: Mapping[str, AgentRunStatus] = field(default_factory=dict)
    unsettled: Mapping[int, Mapping[AgentRunStatus, int]] = field(default_factory=dict)
    judged: Mapping[str, bool | str] = field(default_factory=dict)
    skips: str = ""

    @classmethod
    def of(
        cls,
        statuses: Mapping[str, str] | None,
        unsettled: Mapping[str, Mapping[str, int]] | None,
        judged: Mapping[str, bool | str],
        skips: str = "",
    ) -> Progress:
        """From the rows' JSON."""
        return cls(
            statuses={name: _S(status) for name, status in (statuses or {}).items()},
            unsettled={
                int(level): {_S(status): count for status, count in counts.items()}
                for level, counts in (unsettled or {}).items()
            },
            judged=judged,
            skips=skips,
        )

    @classmethod
    def within(
        cls,
        plan: Plan,
        statuses: Mapping[str, str],
        judged: Mapping[str, bool | str],
        skips: str = "",
    ) -> Progress:
        """From how every step stands that is no longer pending: in a loop, or of added steps."""
        begun = {name: _S(status) for name, status in statuses.items()}
        unsettled: dict[int, Counter[AgentRunStatus]] = {}
        for step in plan.steps:
            status = begun.get(step.name, _S.PENDING)
            if status not in TERMINAL_AGENT_RUN:
                unsettled.setdefault(step.level, Counter())[status] += 1
        return cls(statuses=begun, unsettled=unsettled, judged=judged, skips=skips)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do now. With nothing to do, the run waits for steps that are at work.

    Once `judge` or `fail` is done, the next decision follows at once.
    """

    judge: tuple[str, ...] = ()  # steps whose conditions have to be evaluated first
    dispatch: tuple[str, ...] = ()  # the most urgent first
    wait: tuple[str, ...] = ()  # delays, approvals and maps that begin now
    level: int | None = None  # of the dispatched steps, where levels count
    skip: Mapping[str, str] = field(default_factory=dict)  # step -> one sentence why
    fail: Mapping[str, str] = field(default_factory=dict)
    stop: str = ""  # why nothing more may start, and what has not begun is called back
    is_settled: bool = False  # once the skips are written, nothing is left to do

    @property
    def begins(self) -> bool:
        return bool(self.dispatch or self.wait)


def ready(plan: Plan, progress: Progress) -> Decision:
    """What may start now.

    For `adaptive` that is every step whose own needs allow it, else the next level, once all
    below are settled. Repeating a decision is harmless: only what is still pending can be handed
    out or skipped.
    """
    failed = [name for name, status in progress.statuses.items() if status in _FAILED]
    if failed and plan.failure.mode == "fail_fast":
        culprit = min(failed, key=lambda name: plan.step(name).position)
        return Decision(stop=f"`{culprit}` failed, and the workflow fails fast")
    if plan.strategy == "adaptive":
        return _adaptive(plan, progress)
    return _level_by_level(plan, progress)


def _adaptive(plan: Plan, progress: Progress) -> Decision:
    pass_ = _Pass(plan, progress, unnamed=_S.PENDING)
    for step in (step for level in plan.levels for step in level):
        if step.name not in progress.statuses:
            pass_.look_at(step)
    return pass_.decision()


def _level_by_level(plan: Plan, progress: Progress) -> Decision:
    pass_ = _Pass(plan, progress, unnamed=_S.COMPLETED)
    for number, steps in enumerate(plan.levels):
        counts = progress.unsettled.get(number)
        if not counts:
            continue
        if not counts.get(_S.PENDING):
            return Decision(skip=pass_.skip)
        for step in steps:
            if step.name not in progress.statuses:
                pass_.look_at(step)
        if pass_.has_work:
            return pass_.decision(level=number)
    return pass_.decision()


class _Pass:
    """Looks at pending steps, needs first, and gathers what is to be done with them."""

    def __init__(self, plan: Plan, progress: Progress, *, unnamed: AgentRunStatus) -> None:
        self._statuses = dict(progress.statuses)
        self._unnamed = unnamed  # how a step stands that `statuses` does not name
        self._judged = progress.judged
        self._skips = progress.skips
        self._broken = _broken(plan, progress.statuses)
        self._judge: list[str] = []
        self._start: list[PlannedStep] = []
        self._fail: dict[str, str] = {}
        self.skip: dict[str, str] = {}
        self.is_at_work = any(
            status not in TERMINAL_AGENT_RUN for status in self._statuses.values()
        )

    @property
    def has_work(self) -> bool:
        return bool(self._judge or self._start or self._fail)

    def look_at(self, step: PlannedStep) -> None:
        needs = {name: self._statuses.get(name, self._unnamed) for name in step.needs}
        completed = not needs or _S.COMPLETED in needs.values()
        settled = all(status in TERMINAL_AGENT_RUN for status in needs.values())
        culprit = next((name for name in step.needs if name in self._broken), None)
        if culprit and (step.join == "all" or (settled and not completed)):
            self._broken.add(step.name)
            self._skip(step, f"It needs `{culprit}`, which did not complete")
        elif settled and not completed:
            self._skip(step, "None of the steps that it needs ran")
        elif settled or (step.join == "any" and completed):
            self._ask(step)
        else:
            self.is_at_work = True
            self._statuses[step.name] = _S.PENDING

    def _ask(self, step: PlannedStep) -> None:
        if step.optional and self._skips:
            self._skip(step, self._skips)
            return
        answer = True if step.when is None else self._judged.get(step.name)
        if answer is None:
            self._judge.append(step.name)
        elif isinstance(answer, str):
            self._fail[step.name] = answer
        elif answer:
            self._start.append(step)
        else:
            self._skip(step, f"Its condition `{step.when}` is false")
            return
        self._statuses[step.name] = _S.READY

    def _skip(self, step: PlannedStep, reason: str) -> None:
        self.skip[step.name] = reason
        self._statuses[step.name] = _S.SKIPPED

    def decision(self, *, level: int | None = None) -> Decision:
        if self._judge:
            return Decision(judge=tuple(self._judge))
        if self._fail:
            return Decision(skip=self.skip, fail=self._fail)
        start = sorted(self._start, key=lambda step: (-step.priority, step.position))
        return Decision(
            dispatch=tuple(step.name for step in start if step.is_single),
            wait=tuple(step.name for step in start if not step.is_single),
            level=level,
            skip=self.skip,
            is_settled=not start and not self.is_at_work,
        )


def _broken(plan: Plan, statuses: Mapping[str, AgentRunStatus]) -> set[str]:
    """Steps that failed, and those that were skipped because of one that failed."""
    broken = {name for name, status in statuses.items() if status in _BAD}
    if not broken or _S.SKIPPED not in statuses.values():
        return broken
    for step in (step for level in plan.levels for step in level):
        if statuses.get(step.name) != _S.SKIPPED or broken.isdisjoint(step.needs):
            continue
        if step.join == "all" or all(
            statuses.get(need) in _BAD | {_S.SKIPPED} for need in step.needs
        ):
            broken.add(step.name)
    return broken
