"""No simulated run costs more than the worst case, and none that completes less than the least.

Steps are taken as the scheduler's own decision hands them out, prompts are rendered as a worker
renders them, and calls are charged as the gateway charges them; only the answers are made up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from random import Random
from typing import Any

from hypothesis import given, note
from hypothesis import strategies as st

from agents_app.core.agent import AgentConfig
from agents_app.core.model import ModelRequest
from agents_app.core.observations import misfit
from agents_app.core.types.prompt import request_of
from agents_app.core.values import as_text, text_size
from costs.core.pricing import Price, cost, worst_case
from costs.core.usage import Usage
from orchestrator.core.call_sizes import OVERHEAD_TOKENS
from orchestrator.core.completion import Outcome, verdict
from orchestrator.core.conditions import compile_condition
from orchestrator.core.parsing import spec_from_mapping
from orchestrator.core.plan import Plan, PlannedStep, WorkflowCall, compile_plan
from orchestrator.core.plan_price import plan_price
from orchestrator.core.prices import Priceable, Terms
from orchestrator.core.scheduling import Progress, ready
from orchestrator.core.state import AgentRunStatus, RunStatus
from orchestrator.core.template import render

_A = AgentRunStatus
PRICES = {
    "plain": Price(input=Decimal("2.5"), output=Decimal(10), cached=Decimal("1.25")),
    "free": Price(input=Decimal(0), output=Decimal(0)),
}
INPUTS: dict[str, Any] = {
    "type": "object",
    "required": ["topic", "list", "go"],
    "properties": {
        "topic": {"type": "string", "maxLength": 20},
        "list": {"type": "array", "maxItems": 4, "items": {"type": "string", "maxLength": 6}},
        "go": {"type": "boolean"},
    },
}
VERDICT: dict[str, Any] = {"type": "string", "maxLength": 9}
ATTEMPTS = 2
REPAIRS = 2
LETTERS = 'aé"\\\n\x01😀'
CHILD: dict[str, Any] = {
    "name": "child",
    "strategy": "adaptive",
    "inputs": {"type": "object"},
    "defaults": {"provider": "p", "model": "plain"},
    "steps": {
        "ask": {"agent": {"type": "prompt"}, "prompt": "Say ${input.word ?? 'nothing'}"},
        "may": {"agent": {"type": "prompt"}, "prompt": "x", "when": "input.go == 1"},
    },
}
texts = st.text(st.sampled_from(LETTERS), max_size=6)
inputs = st.fixed_dictionaries(
    {"topic": texts, "list": st.lists(texts, max_size=4), "go": st.booleans()}
)


@st.composite
def bodies(draw: st.DrawFn, earlier: list[str], *, in_loop: bool = False) -> dict[str, Any]:
    reads = [f"steps.{name}.output" for name in earlier] + ["input.topic", "input.list"]
    path = draw(st.sampled_from(reads))
    prompt = draw(st.sampled_from([f"About ${{{path} ?? 'none'}}", f"${{{path}}}", "Plain"]))
    step: dict[str, Any] = {
        "agent": {"type": "prompt"},
        "prompt": prompt,
        "model": draw(st.sampled_from(["plain", "plain", "free"])),
        "parameters": {"max_output_tokens": draw(st.sampled_from([1, 40]))},
        "retry": {"attempts": draw(st.integers(1, 3))},
    }
    if draw(st.booleans()):
        step["output_schema"] = VERDICT
        step["agent"] = {"type": "prompt", "repairs": REPAIRS}
    match draw(st.integers(0, 7)):
        case 0:
            bound: dict[str, Any] = draw(
                st.sampled_from([{}, {"max_items": 3}, {"allow_failed": 0.5}])
            )
            step |= {"map": {"over": "${input.list}", **bound}, "prompt": "Item ${item} ${index}"}
        case 1 if not in_loop:
            inner = draw(bodies(earlier, in_loop=True))
            again = {**inner, "needs": ["w"], "prompt": "${loop.previous.w.output ?? 'first'}"}
            again.pop("map", None)
            most = draw(st.integers(1, 3))
            return {
                "loop": {"steps": {"w": inner, "j": again}, "until": "input.go", "max_rounds": most}
            }
        case 2 if not in_loop:
            return {"workflow": "child@1", "input": {"word": "${input.topic}"}}
        case 3:
            return {"agent": {"type": "tool", "tool": "echo", "arguments": {"value": 1}}}
    return step


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    steps: dict[str, Any] = {}
    for index in range(draw(st.integers(1, 5))):
        needs = draw(st.lists(st.sampled_from(sorted(steps)), unique=True)) if steps else []
        condition = draw(
            st.sampled_from(
                [None, None, "input.go", f"steps.{needs[0]}.output == 'a'" if needs else None]
            )
        )
        more: dict[str, Any] = {"needs": needs, "join": draw(st.sampled_from(["all", "any"]))}
        steps[f"s{index}"] = draw(bodies(needs)) | more | ({"when": condition} if condition else {})
    return {
        "name": "acme",
        "strategy": draw(st.sampled_from(["adaptive", "levels", "sequential"])),
        "failure": {"mode": draw(st.sampled_from(["fail_fast", "partial"]))},
        "defaults": {"provider": "p", "model": "plain"},
        "inputs": INPUTS,
        "steps": steps,
    }


def plan_of(spec: Mapping[str, Any]) -> Plan:
    pinned = {"child@1": WorkflowCall(workflow="child", version=1, version_id="child")}
    return compile_plan(spec_from_mapping(spec), {}, pinned)


CHILD_PLAN = plan_of(CHILD)


def terms() -> Terms:
    return Terms(
        price_of=lambda _, model: PRICES.get(model),
        window_of=lambda *_: None,
        workflow_of=lambda _: Priceable(plan=CHILD_PLAN, inputs={"type": "object"}),
        attempts=ATTEMPTS,
        max_added_steps=200,
    )


@dataclass
class Simulation:
    """A run of which fate decides the answers; `spent` is what all of it has cost.

    A dear one takes the dearest turn everywhere, a cheap one the cheapest.
    """

    fate: Random
    mood: str = "any"
    spent: int = 0

    def happens(self, chance: float, *, is_dear: bool = True) -> bool:
        if self.mood == "any":
            return self.fate.random() < chance
        return is_dear is (self.mood == "dear")

    def number(self, least: int, most: int) -> int:
        extremes = {"dear": most, "cheap": least}
        return extremes.get(self.mood, self.fate.randint(least, most))

    def run(self, plan: Plan, context: dict[str, Any], *, in_loop: bool = False) -> Any:
        """The outputs by step; None if it did not complete."""
        statuses: dict[str, str] = {}
        judged: dict[str, bool | str] = {}
        outputs: dict[str, Any] = {}
        while True:
            decision = ready(plan, Progress.within(plan, statuses, judged))
            if decision.stop:
                return None
            for name in decision.judge:
                judged[name] = self.holds(plan.step(name).when or "", context, outputs)
            statuses |= dict.fromkeys(decision.skip, _A.SKIPPED)
            statuses |= dict.fromkeys(decision.fail, _A.FAILED)
            for name in (*decision.dispatch, *decision.wait):
                known = {step: {"output": outputs.get(step)} for step in plan.names}
                steps = {**context.get("steps", {}), **known}
                is_done, outputs[name] = self.step(plan.step(name), {**context, "steps": steps})
                statuses[name] = _A.COMPLETED if is_done else _A.FAILED
            if decision.is_settled and not decision.skip:
                break
        outcomes = [Outcome(name=name, status=_A(status)) for name, status in statuses.items()]
        ended = verdict(outcomes, plan.failure).status
        is_whole = all(status in (_A.COMPLETED, _A.SKIPPED) for status in statuses.values())
        return outputs if (is_whole if in_loop else ended is RunStatus.COMPLETED) else None

    def holds(self, when: str, context: dict[str, Any], outputs: dict[str, Any]) -> bool | str:
        condition = compile_condition(when)
        if condition.steps:
            return self.happens(0.5)
        return condition.evaluate(context) if "go" in context["input"] else self.happens(0.5)

    def step(self, step: PlannedStep, context: dict[str, Any]) -> tuple[bool, Any]:
        if step.map is None:
            return self.one(step, context)
        items = render(step.map.over, context)
        assert isinstance(items, list)
        if len(items) > (step.map.max_items or 10):
            return False, None
        done = [
            self.one(step, {**context, "item": item, "index": index})
            for index, item in enumerate(items)
        ]
        failed = sum(not is_done for is_done, _ in done)
        return failed <= step.map.allow_failed * len(items), [output for _, output in done]

    def one(self, step: PlannedStep, context: dict[str, Any]) -> tuple[bool, Any]:
        if step.loop is not None:
            return self.rounds(step, context)
        if step.call is not None:
            given = {"input": render(step.call.input, context)}
            child = self.run(CHILD_PLAN, given)
            return child is not None, child
        return self.attempts(step, context) if step.uses_model else (True, 1)

    def rounds(self, step: PlannedStep, context: dict[str, Any]) -> tuple[bool, Any]:
        assert step.loop is not None
        previous: dict[str, Any] = {}
        for number in range(step.loop.max_rounds):
            loop = {"round": number + 1, "previous": previous}
            given = self.run(step.loop.body, {**context, "loop": loop}, in_loop=True)
            if given is None:
                return False, None
            if self.happens(0.4, is_dear=False) or number + 1 == step.loop.max_rounds:
                return True, given
            previous = {name: {"output": output} for name, output in given.items()}
        return False, None

    def attempts(self, step: PlannedStep, context: dict[str, Any]) -> tuple[bool, Any]:
        config: dict[str, Any] = step.config
        request = request_of(
            AgentConfig(
                type="prompt",
                prompt=as_text(render(config["prompt"], context)),
                parameters=config.get("parameters", {}),
                output_schema=config.get("output_schema"),
            )
        )
        size, most = text_size(request.prompt_text), request.max_output_tokens
        price = PRICES[step.model or ""]
        attempts = step.retry.attempts if step.retry else ATTEMPTS
        attempt = repairs = 0
        while attempt < attempts:
            if attempt + 1 < attempts and self.happens(0.2):
                # It timed out, and is charged at what was set aside for it.
                tokens = size + OVERHEAD_TOKENS
                self.spent += worst_case(input_bound=tokens, max_output=most, price=price)
            elif self.mood != "any" or self.happens(0.9):  # else it is refused, for nothing
                self.spent += self.charge(size, most, price)
                if request.output_schema is None or repairs == REPAIRS or not self.happens(0.3):
                    return self.mood != "any" or self.happens(0.9), self.answer(step)
                # It does not fit, and is asked for again: the next attempt begins with that.
                repairs, size = repairs + 1, size + self.repair(request, most)
                attempt -= 1
            attempt += 1
        return False, None

    def repair(self, request: ModelRequest, most: int) -> int:
        """The bytes that a repair adds: the answer, and what is wrong with it."""
        wrong = ValueError("😀" * 1_000 if self.mood == "dear" else "no")
        return most + text_size(misfit(wrong, schema=request.output_schema))

    def charge(self, size: int, most: int, price: Price) -> int:
        tokens = self.number(-(-size // 16), size + OVERHEAD_TOKENS)
        usage = Usage(
            input_tokens=tokens,
            cached_tokens=tokens - self.number(0, tokens),
            output_tokens=self.number(0, most),
        )
        return cost(usage, price).nano

    def answer(self, step: PlannedStep) -> str:
        most = VERDICT["maxLength"] if step.config.get("output_schema") else 40
        letters = "😀" if self.mood == "dear" else LETTERS
        return "".join(self.fate.choice(letters) for _ in range(self.number(0, most)))


@given(
    spec=specs(),
    given_input=inputs,
    seed=st.integers(0, 2**32),
    mood=st.sampled_from(["dear", "cheap", "any"]),
)
def test_no_run_costs_more_than_the_worst_case_or_less_than_the_least(
    spec: dict[str, Any], given_input: dict[str, Any], seed: int, mood: str
) -> None:
    plan = plan_of(spec)
    workflow = Priceable(plan=plan, inputs=INPUTS)
    for_any = plan_price(workflow, terms()).amounts
    for_this = plan_price(workflow, terms(), input=given_input).amounts
    simulation = Simulation(Random(seed), mood)

    note(spec)
    outputs = simulation.run(plan, {"input": given_input})
    note(outputs)

    for amounts in (for_any, for_this):
        assert amounts.worst is None or simulation.spent <= amounts.worst
        assert outputs is None or amounts.least is None or simulation.spent >= amounts.least


@given(spec=specs(), given_input=inputs)
def test_an_input_that_is_known_only_narrows_the_price(
    spec: dict[str, Any], given_input: dict[str, Any]
) -> None:
    workflow = Priceable(plan=plan_of(spec), inputs=INPUTS)
    for_any = plan_price(workflow, terms()).amounts
    for_this = plan_price(workflow, terms(), input=given_input).amounts

    assert _known(for_any.least) <= _known(for_this.least) <= _known(for_this.worst)
    assert _known(for_this.worst) <= _known(for_any.worst)
    assert for_any.hold <= for_this.hold


def _known(amount: int | None) -> int:
    assert amount is not None
    return amount
