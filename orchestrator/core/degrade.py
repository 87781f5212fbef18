"""The ladder of a workflow: what its runs give up, rule by rule, as they use up their cap."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal, TypeAlias

from costs.core.money import format_usd
from orchestrator.core.jsonvalue import Json
from orchestrator.core.problems import Problem, pointer
from orchestrator.core.spec import (
    Ask,
    DegradeRule,
    ModelChoice,
    StepSpec,
    WorkflowSpec,
)

Action: TypeAlias = Literal["use", "map_items", "skip", "ask"]
_ACTIONS: Final[tuple[Action, ...]] = ("use", "map_items", "skip", "ask")
# A second rule of these would say nothing that the first has not said.
_ONCE: Final[frozenset[Action]] = frozenset({"skip", "ask"})


@dataclass(frozen=True, slots=True, kw_only=True)
class CapUse:
    """How much of a run's cap is spent, and held for calls that are under way."""

    spent_nano: int
    held_nano: int
    limit_nano: int

    @property
    def used_nano(self) -> int:
        return self.spent_nano + self.held_nano

    def reaches(self, share: float) -> bool:
        # As its author wrote it: in binary, 0.07 of 100 is more than 7.
        return self.used_nano >= Decimal(str(share)) * self.limit_nano

    @property
    def share(self) -> float:
        return round(self.used_nano / self.limit_nano, 4) if self.limit_nano else 1.0

    def __str__(self) -> str:
        percent = 100 * self.used_nano // self.limit_nano if self.limit_nano else 100
        return f"{percent} % of its {format_usd(self.limit_nano)} USD"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """A rule of a ladder, by its number there, from 1."""

    number: int
    rule: DegradeRule

    @property
    def action(self) -> Action:
        return action_of(self.rule)

    @property
    def percent(self) -> str:
        return f"{self.rule.at * 100:g} %"

    def kept(self, items: int) -> int:
        """To how many a list of items is cut down."""
        return math.ceil(Decimal(str(self.rule.map_items or 1)) * items)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far down its ladder a run is; with no `use` it has no cap that is in force.

    `told` are the rules, by number, whose effect its history tells of already; `is_asking`: it
    is paused until a person has answered.
    """

    ladder: Sequence[DegradeRule] = ()
    use: CapUse | None = None
    told: frozenset[int] = frozenset()
    is_asking: bool = False

    def rung(self, action: Action) -> Rung | None:
        """The last rule of a kind whose share is reached."""
        use = self.use
        reached = [rung for rung in self._rungs(action) if use and use.reaches(rung.rule.at)]
        return reached[-1] if reached else None

    def rung_for_call(self, bound: Callable[[ModelChoice | None], int]) -> Rung | None:
        """The rule whose model a call goes to; None for the one that its step has.

        `bound` is what a call to a model may cost. What the cap has no room for any more is
        made by a rule further down, before its share is reached.
        """
        now = self.rung("use")
        if self.use is None or self._fits(bound(now.rule.use if now else None)):
            return now
        below = [rung for rung in self._rungs("use") if now is None or rung.number > now.number]
        fitting = (rung for rung in below if self._fits(bound(rung.rule.use)))
        return next(fitting, now)

    def _fits(self, bound: int) -> bool:
        # What is held may be given back, and is waited for.
        return self.use is None or self.use.spent_nano + bound <= self.use.limit_nano

    def _rungs(self, action: Action) -> Iterator[Rung]:
        for number, rule in enumerate(self.ladder, start=1):
            if action_of(rule) == action:
                yield Rung(number=number, rule=rule)

    @property
    def skips(self) -> str:
        """Why optional steps are skipped, if they are."""
        rung = self.rung("skip")
        if rung is None:
            return ""
        return (
            f"The run has used {self.use}; from {rung.percent} on, its workflow skips optional "
            "steps"
        )

    def facts(self, rung: Rung, **more: Json) -> dict[str, Json]:
        """What the run's history tells of a rule that takes effect."""
        if self.use is None:
            raise ValueError("without a cap no rule takes effect")
        return {
            "rung": rung.number,
            "does": rung.action,
            "at": rung.rule.at,
            "share": self.use.share,
            "used_nano": self.use.used_nano,
            "limit_nano": self.use.limit_nano,
            **more,
        }

    def question(self, rung: Rung, ask: Ask) -> str:
        """What people read who are asked: the figures, and what to do."""
        if self.use is None:
            raise ValueError("without a cap nobody is asked")
        used = format_usd(self.use.used_nano)
        until = f" within {ask.expires}" if ask.expires else ""
        return (
            f"It has used {self.use} ({used} USD are spent or held), and from {rung.percent} on, "
            f"its workflow asks a person. {_any_of(ask.roles)} may resume it{until}, or cancel it"
        )


def action_of(rule: DegradeRule) -> Action:
    return next(action for action in _ACTIONS if getattr(rule, action) is not None)


def calls_now_go_to(model: ModelChoice, rung: Rung, use: CapUse | None) -> str:
    """Why calls go to another model than the one that their step has."""
    goes = f"calls go to {model.provider} {model.model}"
    if use is not None and not use.reaches(rung.rule.at):
        return f"The run has used {use}, and the next call no longer fits; from now on, {goes}"
    return f"The run has used {use}; from {rung.percent} on, {goes}"


def shortened(rung: Rung, use: CapUse | None, *, items: int) -> str:
    """Why a map goes over the first of its items alone."""
    return (
        f"Only the first {rung.kept(items)} of {items} items: the run has used {use}, and from "
        f"{rung.percent} on, its workflow cuts optional maps down"
    )


def _any_of(roles: Sequence[str]) -> str:
    names = " or ".join(dict.fromkeys(roles))
    return f"An {names}" if names[0] in "aeo" else f"A {names}"


def ladder_problems(spec: WorkflowSpec, *, broken: frozenset[str]) -> Iterator[Problem]:
    """What makes no sense in the rules of a workflow; `broken` steps may be anything."""
    rules = spec.degrade or []
    if rules and spec.max_cost_usd is None:
        message = (
            "A workflow with `degrade` needs `max_cost_usd`: its rules take effect at shares of it"
        )
        yield Problem("/max_cost_usd", "required", message)
    seen: dict[Action, float] = {}
    highest = 0.0
    for index, rule in enumerate(rules):
        at = pointer("degrade", index)
        yield from _share_problems(rule.at, highest, at=at + "/at")
        highest = max(highest, rule.at)
        action = action_of(rule)
        yield from _repetition_problems(action, rule.at, seen, at=at)
        seen[action] = rule.at
        yield from _action_problems(rule, at=at + pointer(action))
        if not broken:
            yield from _missing_problems(rule, spec, at=at + pointer(action))


def _share_problems(share: float, highest: float, *, at: str) -> Iterator[Problem]:
    if not 0 < share < 1:
        message = "Write a share between 0 and 1, such as 0.7; at 1 the run ends by itself"
        yield Problem(at, "out_of_range", message)
    elif share < highest:
        message = f"Shares have to rise from rule to rule, and the one before is {highest:g}"
        yield Problem(at, "not_rising", message)


def _repetition_problems(
    action: Action, share: float, seen: dict[Action, float], *, at: str
) -> Iterator[Problem]:
    if action not in seen:
        return
    if action in _ONCE:
        message = f"A rule above does `{action}` already; remove one of them"
        yield Problem(at + pointer(action), "duplicate_rule", message)
    elif share == seen[action]:
        message = f"A rule above does `{action}` at the same share; remove one of them"
        yield Problem(at + pointer(action), "duplicate_rule", message)


def _action_problems(rule: DegradeRule, *, at: str) -> Iterator[Problem]:
    if rule.map_items is not None and not 0 < rule.map_items < 1:
        message = "Write the share of the items that is kept, between 0 and 1, such as 0.5"
        yield Problem(at, "out_of_range", message)
    if rule.ask is not None and set(rule.ask.roles) == {"viewer"}:
        message = "A viewer cannot resume a run; name a role that can"
        yield Problem(at + "/roles", "cannot_resume", message)


def _missing_problems(rule: DegradeRule, spec: WorkflowSpec, *, at: str) -> Iterator[Problem]:
    if rule.map_items is not None and not any(step.map for step in _optional(spec.steps)):
        message = "No step with a map is marked `optional: true`, so there is nothing to cut down"
        yield Problem(at, "nothing_optional", message)
    if rule.skip is not None and not any(_optional(spec.steps)):
        message = "No step is marked `optional: true`, so there is nothing to skip"
        yield Problem(at, "nothing_optional", message)


def _optional(steps: Sequence[StepSpec]) -> Iterator[StepSpec]:
    for step in steps:
        if step.optional:
            yield step
        if step.loop is not None:
            yield from _optional(step.loop.steps)
