"""What a plan costs, told before it runs: at the worst, and on its cheapest way.

At the worst every step runs unless its condition is known to be false, every attempt pays for a
call that is as long as it can be, an answer with a form is repaired as often as may be, an agent
that works in turns takes all of them, every loop takes all its rounds and every map all its items.
Caps of steps and of the workflow bound it. Not in it is what only accidents cost: a call whose
worker died, and what a person has tried again.

The cheapest way is that of a run that completes: steps that may be skipped are, a step pays for one
attempt, a loop for one round, a map for the items that it is known to have. With `join: any` a step
may start early, but all that it needs still runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from agents_app.core import values
from agents_app.core.observations import with_data_rule
from costs.core.pricing import Price, estimate_of_bytes, least_case, worst_case
from orchestrator.core.call_sizes import (
    OVERHEAD_TOKENS,
    asking_tools,
    config_of,
    max_output,
    reads,
    sent_beside,
)
from orchestrator.core.collector import paused_collector
from orchestrator.core.conditions import compile_condition
from orchestrator.core.errors import ConditionError
from orchestrator.core.handed_price import handed_price
from orchestrator.core.jsonvalue import Json
from orchestrator.core.mapping import MAX_ITEMS
from orchestrator.core.plan import MAX_DEPTH, PlannedStep, WorkflowCall
from orchestrator.core.prices import (
    NOTHING,
    Amounts,
    InputBound,
    Note,
    PlanPrice,
    Priceable,
    Runs,
    StepPrice,
    Terms,
)
from orchestrator.core.spec import RetrySpec
from orchestrator.core.template import MAX_RENDERED_BYTES
from orchestrator.core.text_size import UNKNOWN, Unknown, View, total

# No text that is meant to be read takes fewer tokens.
_MOST_BYTES_PER_TOKEN: Final = 16
_MOST_PROMPT_BYTES: Final = MAX_RENDERED_BYTES + values.text_size(with_data_rule(""))
_ONCE: Final = RetrySpec(attempts=1)
_NOBODY: Final = "No agent was known that could take it, so that nobody knows what one will cost"
_OWN_CODE: Final = (
    "What an agent of one's own asks its model is for its code to say; "
    "`max_cost_usd` of the step bounds it"
)


@paused_collector()
def plan_price(workflow: Priceable, terms: Terms, *, input: Json | Unknown = UNKNOWN) -> PlanPrice:
    """The price of a run with any input, or with this one."""
    view = View(plan=workflow.plan, inputs=workflow.inputs, input=input)
    return _Pricing(terms).plan(view, depth=0)


@dataclass(frozen=True, slots=True)
class _One:
    """A step without a map, or one item of it."""

    amounts: Amounts = NOTHING
    input_tokens: int | None = None
    input_bound: InputBound | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What a model costs if it is asked: at most for each of the turns, and for all of them."""

    turns: list[int]
    most: int
    least: int
    hold: int
    tokens: int  # of the first call, at most
    bound: InputBound


@dataclass(slots=True)
class _Pricing:
    terms: Terms
    _workflows: dict[tuple[str, int], Amounts] = field(default_factory=dict)
    _calls: dict[tuple[str | None, str | None, int, int | None], int] = field(default_factory=dict)

    def plan(self, view: View, *, depth: int) -> PlanPrice:
        runs: dict[str, Runs] = {}
        steps = []
        for step in (step for level in view.plan.levels for step in level):
            runs[step.name] = _runs(step, view, [runs[need] for need in step.needs])
            steps.append(self._step(step, view, runs[step.name], depth))
        steps.sort(key=lambda priced: view.plan.step(priced.name).position)
        amounts = _together(step.amounts for step in steps)
        return PlanPrice(steps=tuple(steps), amounts=amounts.capped(view.plan.max_cost_nano))

    def _step(self, step: PlannedStep, view: View, runs: Runs, depth: int) -> StepPrice:
        one = _One() if runs == "never" else self._one(step, view, depth)
        amounts = _of_map(step, view, one.amounts) if step.map else one.amounts
        return StepPrice(
            name=step.name,
            kind=step.kind,
            provider=step.provider if step.uses_model else None,
            model=step.model if step.uses_model else None,
            runs=runs,
            amounts=amounts if runs == "always" else amounts.skippable,
            item_worst=one.amounts.worst if step.map else None,
            input_tokens=one.input_tokens,
            input_bound=one.input_bound,
        )

    def _one(self, step: PlannedStep, view: View, depth: int) -> _One:
        if step.choice is not None:
            able = [self._one(each, view, depth) for each in step.choice.candidates]
            return _any_of(able) if able else _One(_unknown(Note(step.name, "no_agent", _NOBODY)))
        if step.loop is not None:
            body = self.plan(view.inside(step, step.loop.body), depth=depth).amounts
            return _One(_below(step.name, body.times(step.loop.max_rounds, least=1)))
        if step.call is not None:
            amounts = _below(step.name, self._run_of(step.call, depth + 1))
            return _One(amounts.capped(step.max_cost_nano))
        one = self._asking(step, view) if step.uses_model else _One()
        if not step.adds_steps:
            return one
        return replace(one, amounts=_together([one.amounts, self._added(step)]))

    def _run_of(self, call: WorkflowCall, depth: int) -> Amounts:
        """What a run of a sub-workflow costs, whatever its input."""
        if depth > MAX_DEPTH:
            return NOTHING
        key = (call.version_id, depth)
        if key not in self._workflows:
            called = self.terms.workflow_of(call.version_id)
            view = View(plan=called.plan, inputs=called.inputs)
            amounts = self.plan(view, depth=depth).amounts
            failure = called.plan.failure
            # Its step completes too where some of it failed, which may have cost nothing.
            may_lack = failure.mode == "partial" and failure.max_failed_ratio > 0
            self._workflows[key] = amounts.skippable if may_lack else amounts
        return self._workflows[key]

    def _asking(self, step: PlannedStep, view: View) -> _One:
        """Its own calls, for which its cap holds, and what it hands to others."""
        own = self._agent(step, view)
        capped = own.amounts.capped(step.max_cost_nano)
        if not step.delegates:
            return replace(own, amounts=capped)
        handed = handed_price(step.name, config_of(step), self.terms)
        return replace(own, amounts=_together([capped, handed]))

    def _agent(self, step: PlannedStep, view: View) -> _One:
        if step.by_complexity:
            models = sorted(set(step.by_complexity.values()))
            of_each = (replace(step, model=model, by_complexity={}) for model in models)
            return _any_of([self._agent(one, view) for one in of_each])
        if step.config.get("type") == "custom":
            return _One(_unknown(Note(step.name, "own_code", _OWN_CODE)))
        asked = []
        for each in _on_ladder(step, view):
            price = self.terms.price_of(each.provider or "", each.model or "")
            if price is None:
                told = f"No price is known for model `{each.model}` of provider `{each.provider}`"
                return _One(_unknown(Note(step.name, "no_price", told)))
            asked.append(self._asked(each, price, view))
        own = asked[0]
        attempts = step.retry.attempts if step.retry else self.terms.attempts
        # From one call to the next the ladder may change the model.
        turns = [max(calls) for calls in zip(*(each.turns for each in asked), strict=True)]
        dearest = max(each.turns[-1] for each in asked)
        amounts = Amounts(
            # A turn that was answered is not paid again, so all failures come at the dearest.
            worst=min(sum(turns), max(each.most for each in asked)) + (attempts - 1) * dearest,
            least=min(each.least for each in asked),
            hold=min(each.hold for each in asked),
            calls=len(turns) + attempts - 1,
        )
        amounts = _with_asking(step.name, asking_tools(step, self.terms), amounts)
        return _One(self._with_fallback(step, view, amounts), own.tokens, own.bound)

    def _asked(self, step: PlannedStep, price: Price, view: View) -> _Asked:
        """Its calls if this model answers all of them, each longer than the one before."""
        prompt, beside = view.prompt_span(step), sent_beside(step, self.terms)
        sent = prompt + beside
        window = self.terms.window_of(step.provider or "", step.model or "")
        tokens, bound = _input_bound(prompt.most, beside.most or 0, window)
        turns = [
            self._worst_call(step, price, read)
            for read in reads(step, tokens, window=window, terms=self.terms)
        ]
        return _Asked(
            turns=turns,
            most=_within_tokens(step, price, turns),
            least=self._least_call(step, price, sent.least // _MOST_BYTES_PER_TOKEN),
            hold=self._worst_call(step, price, estimate_of_bytes(sent.least)),
            tokens=tokens,
            bound=bound,
        )

    def _with_fallback(self, step: PlannedStep, view: View, own: Amounts) -> Amounts:
        """Each model of the chain may be paid too, and any of them may be the cheapest way."""
        for choice in step.fallback:
            asked = replace(
                step, provider=choice.provider, model=choice.model, retry=_ONCE, fallback=()
            )
            other = self._agent(asked, view).amounts
            own = Amounts(
                worst=total([own.worst, other.worst]),
                least=_less(own.least, other.least),
                hold=min(own.hold, other.hold),
                calls=total([own.calls, other.calls]),
                notes=tuple(dict.fromkeys([*own.notes, *other.notes])),
            )
        return own

    def _worst_call(self, step: PlannedStep, price: Price, tokens: int) -> int:
        most = max_output(step)
        key = (step.provider, step.model, tokens, most)
        if key not in self._calls:
            self._calls[key] = worst_case(input_bound=tokens, max_output=most, price=price)
        return self._calls[key]

    def _least_call(self, step: PlannedStep, price: Price, tokens: int) -> int:
        key = (step.provider, step.model, tokens, None)
        if key not in self._calls:
            self._calls[key] = least_case(input_least=tokens, price=price)
        return self._calls[key]

    def _added(self, step: PlannedStep) -> Amounts:
        told = (
            "It may add steps, whose price depends on what they are; "
            f"a run takes {self.terms.max_added_steps:,} of them (MUSTER_MAX_ADDED_STEPS)"
        )
        note = Note(step.name, "adds_steps", told)
        return Amounts(worst=None, calls=None, notes=(note,))


def _any_of(each: list[_One]) -> _One:
    """Any of them may be chosen: the dearest at the worst, the cheapest at the least."""
    return replace(each[0], amounts=_either([one.amounts for one in each]))


def _with_asking(name: str, tools: Sequence[str], own: Amounts) -> Amounts:
    """Its calls with what these tools of it ask, which their arguments say."""
    if not tools:
        return own
    told = (
        f"What its tools ask models themselves ({', '.join(tools)}) is for it to say; "
        "`max_cost_usd` of the step bounds it"
    )
    return replace(own, worst=None, calls=None, notes=(Note(name, "asks_models", told),))


def _runs(step: PlannedStep, view: View, needs: list[Runs]) -> Runs:
    """Whether the step runs in a run that completes."""
    truth = _truth(step, view)
    if truth is False or (needs and all(need == "never" for need in needs)):
        return "never"
    may_be_rejected = step.approval and step.approval.on_reject == "skip" and not step.map
    is_needed = not needs or "always" in needs
    return "always" if truth and is_needed and not may_be_rejected else "maybe"


def _truth(step: PlannedStep, view: View) -> bool | None:
    """What the step's condition gives, or None if that depends on what is not given."""
    if step.when is None:
        return True
    if step.when_reads:
        return None
    condition = compile_condition(step.when)
    if not condition.roots <= view.known.keys():
        return None
    try:
        return condition.evaluate(view.known)
    except ConditionError:
        return None


def _of_map(step: PlannedStep, view: View, one: Amounts) -> Amounts:
    most, given = view.most_items(step), view.items(step)
    accepted = step.map.allow_failed if step.map else 0
    least = 0 if given is None else len(given) - int(accepted * len(given))
    amounts = one.times(most, least=least)
    if amounts.worst is None and one.worst is not None:
        told = f"Its map has no `max_items`, so that it may have up to {MAX_ITEMS:,} items"
        return replace(amounts, notes=(*amounts.notes, Note(step.name, "open_map", told)))
    return amounts


def _input_bound(most: int | None, beside: int, window: int | None) -> tuple[int, InputBound]:
    """How many tokens a call reads at most. No tokenizer makes more of them than bytes."""
    tokens = (_MOST_PROMPT_BYTES if most is None else most) + beside + OVERHEAD_TOKENS
    if window is not None and window < tokens:
        # What is longer is refused, and costs nothing.
        return window, "context_window"
    return tokens, "rendered_prompt" if most is None else "prompt"


def _within_tokens(step: PlannedStep, price: Price, turns: list[int]) -> int:
    """What all turns cost. Once its tokens are used up, an agent asks nothing more."""
    most = step.config.get("max_total_tokens")
    if not isinstance(most, int):
        return sum(turns)
    used = worst_case(input_bound=most, max_output=most, price=price)
    each = worst_case(input_bound=0, max_output=0, price=price)
    return min(sum(turns), used + len(turns) * each + turns[-1])


def _on_ladder(step: PlannedStep, view: View) -> list[PlannedStep]:
    """The step with its own model, and with each that the ladder of its run may put there."""
    uses = [rule.use for rule in view.whole.plan.degrade if rule.use]
    return [step, *(replace(step, provider=use.provider, model=use.model) for use in uses)]


def _either(amounts: Sequence[Amounts]) -> Amounts:
    """Whichever of them is taken: the dearest at the worst, the cheapest at the least."""
    worst = [one.worst for one in amounts]
    least = [one.least for one in amounts]
    calls = [one.calls for one in amounts]
    return Amounts(
        worst=None if None in worst else max(filter(None, worst), default=0),
        least=None if None in least else min(one or 0 for one in least),
        hold=min(one.hold for one in amounts),
        calls=None if None in calls else max(filter(None, calls), default=0),
        notes=tuple(dict.fromkeys(note for one in amounts for note in one.notes)),
    )


def _together(parts: Iterable[Amounts]) -> Amounts:
    found = list(parts)
    return Amounts(
        worst=total(part.worst for part in found),
        least=total(part.least for part in found),
        hold=max((part.hold for part in found), default=0),
        calls=total(part.calls for part in found),
        notes=tuple(note for part in found for note in part.notes),
    )


def _less(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else min(one, other)


def _unknown(note: Note) -> Amounts:
    return Amounts(worst=None, least=None, calls=None, notes=(note,))


def _below(name: str, amounts: Amounts) -> Amounts:
    """With the notes' places as seen from outside."""
    notes = tuple(replace(note, step=f"{name}.{note.step}") for note in amounts.notes)
    return replace(amounts, notes=notes)
