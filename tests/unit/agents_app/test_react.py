"""An agent that calls tools in turns, with a model that says what a test has it say."""

import threading
from collections.abc import Collection, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from pydantic import JsonValue

from agents_app.core.agent import AgentConfig, Outcome, Ports
from agents_app.core.approving import CallApproval
from agents_app.core.errors import AgentLimitError, ToolNotAllowedError
from agents_app.core.journal import HELD, IN_DOUBT, NO_JOURNAL, ToolEnd, ToolJournal
from agents_app.core.model import FinishReason, ModelReply, ModelRequest, ToolCall
from agents_app.core.tools import Tool, Toolbox, tool
from agents_app.core.types.react import ReactAgent
from agents_app.runtime import run_agent
from agents_app.tool_threads import ToolThreads
from agents_app.tools.calculator import calculator
from costs.core.usage import Usage

CONFIG = AgentConfig(
    type="react",
    provider="simulated",
    model="sim",
    system="Be brief.",
    prompt="How much is it?",
    tools=["calculator"],
)
TENANT: ContextVar[str] = ContextVar("TENANT", default="nobody")


@dataclass
class Scripted:
    """Says one turn after the other: a text, or calls of tools with their arguments."""

    turns: list[str | list[tuple[str, JsonValue]]]
    requests: list[ModelRequest] = field(default_factory=list)

    def complete(self, request: ModelRequest) -> ModelReply:
        turn = self.turns[len(self.requests)]
        self.requests.append(request)
        asked = turn if isinstance(turn, list) else []
        calls = tuple(
            ToolCall(id=f"{len(self.requests)}-{number}", name=name, arguments=arguments)
            for number, (name, arguments) in enumerate(asked)
        )
        return ModelReply(
            text=turn if isinstance(turn, str) else "",
            finish_reason=FinishReason.TOOL_CALLS if calls else FinishReason.STOP,
            usage=Usage(input_tokens=1, output_tokens=1),
            provider="simulated",
            model="sim",
            tool_calls=calls,
        )

    def told(self) -> list[str]:
        return [result.content for result in self.requests[-1].messages[-1].tool_results]


@dataclass
class Journal:
    known: dict[str, ToolEnd] = field(default_factory=dict)
    begun: list[str] = field(default_factory=list)
    repeatable: set[str] = field(default_factory=set)
    agreed: set[str] = field(default_factory=set)

    def begin(
        self,
        turn: int,
        calls: Sequence[ToolCall],
        *,
        repeatable: Collection[str],
        held: Collection[str] = (),
    ) -> Mapping[str, ToolEnd]:
        self.begun += [call.id for call in calls]
        self.repeatable.update(repeatable)
        waiting = dict.fromkeys({*held} - self.agreed, HELD)
        return {each.id: end for each in calls if (end := (waiting | self.known).get(each.id))}

    def end(self, turn: int, call_id: str, end: ToolEnd) -> None:
        self.known[call_id] = end


def run(
    model: Scripted, *tools: Tool, journal: ToolJournal | None = None, **changes: Any
) -> Outcome:
    box = Toolbox(tools or (calculator,))
    ports = Ports(model=model, tools=box, journal=journal or NO_JOURNAL, hands=ToolThreads())
    given = {
        name: getattr(CONFIG, name) for name in ("type", "provider", "model", "system", "prompt")
    }
    names = [each.name for each in box]
    return run_agent(AgentConfig(**{**given, "tools": names, **changes}), inputs={}, ports=ports)


def test_it_calls_tools_until_it_answers() -> None:
    model = Scripted([[("calculator", {"expression": "6*7"})], "It is 42."])

    outcome = run(model)

    assert outcome.output == "It is 42."
    assert model.told() == ["<tool_output>\n42\n</tool_output>"]


def test_model_is_shown_its_tools_and_no_others() -> None:
    model = Scripted(["It is 42."])

    run(model, calculator, renamed("spare"), tools=["calculator"])

    assert [each.name for each in model.requests[0].tools] == ["calculator"]


def test_tool_that_is_not_allowed_is_not_called() -> None:
    called = threading.Event()
    model = Scripted([[("spare", {})], "I cannot."])

    run(model, calculator, renamed("spare", called.set), tools=["calculator"])

    assert not called.is_set()
    assert model.requests[-1].messages[-1].tool_results[0].is_error


def test_arguments_that_do_not_fit_are_told_to_the_model() -> None:
    model = Scripted([[("calculator", {"formula": "1"})], "I cannot."])

    run(model)

    assert "expression" in model.told()[0]


def test_calls_of_one_turn_run_at_the_same_time_and_in_the_context_of_their_agent() -> None:
    both = threading.Barrier(2, timeout=10)

    @tool()
    def meet() -> str:
        """Wait for the other."""
        both.wait()
        return TENANT.get()

    token = TENANT.set("acme")
    model = Scripted([[("meet", {}), ("meet", {})], "Done."])
    run(model, meet)
    TENANT.reset(token)

    assert model.told() == ["<tool_output>\nacme\n</tool_output>"] * 2


def test_tool_that_never_returns_is_left_behind() -> None:
    never = threading.Event()

    @tool(timeout_seconds=0.05)
    def hang() -> None:
        """Never return."""
        never.wait(30)

    model = Scripted([[("hang", {}), ("calculator", {"expression": "1"})], "Done."])
    run(model, hang, calculator)
    never.set()

    assert "no result within 0.05 s" in model.told()[0]
    assert model.told()[1] == "<tool_output>\n1\n</tool_output>"


def test_tool_that_ends_its_thread_has_failed() -> None:
    model = Scripted([[("leave", {})], "Done."])

    run(model, renamed("leave", lambda: exec("raise SystemExit")))

    assert "SystemExit" in model.told()[0]


def test_calls_that_have_ended_before_are_not_made_again() -> None:
    known = {"1-0": ToolEnd(output="from before"), "1-1": IN_DOUBT}
    called = threading.Event()
    model = Scripted([[("spare", {}), ("spare", {"n": 1})], "Done."])

    run(model, renamed("spare", called.set), journal=Journal(known=known))

    assert not called.is_set()
    assert "from before" in model.told()[0]
    assert "Nobody knows" in model.told()[1]


def test_results_are_noted_and_tools_that_must_not_be_repeated_are_named() -> None:
    journal = Journal()
    model = Scripted([[("calculator", {"expression": "1+1"}), ("calculator", {})], "Done."])

    run(model, calculator, renamed("pay", is_repeatable=False), journal=journal)

    assert journal.begun == ["1-0", "1-1"]
    assert journal.known["1-0"] == ToolEnd(output=2)
    assert journal.known["1-1"].error
    assert journal.repeatable == {"calculator"}


def test_call_that_needs_an_approval_leaves_off_behind_the_others() -> None:
    journal, paid = Journal(), threading.Event()
    model = Scripted([[("pay", {}), ("calculator", {"expression": "1+1"})]])

    outcome = run(model, calculator, sensitive("pay", paid.set), journal=journal)

    assert [(each.turn, each.call.name) for each in outcome.held] == [(1, "pay")]
    assert not outcome.is_final
    assert not paid.is_set()
    assert journal.known == {"1-1": ToolEnd(output=2)}


def test_call_that_was_agreed_to_is_made() -> None:
    paid = threading.Event()
    model = Scripted([[("pay", {})], "Paid."])

    outcome = run(model, sensitive("pay", paid.set), journal=Journal(agreed={"1-0"}))

    assert (outcome.output, paid.is_set()) == ("Paid.", True)


def test_without_a_run_nobody_can_agree() -> None:
    paid = threading.Event()
    model = Scripted([[("pay", {})], "So not."])

    assert run(model, sensitive("pay", paid.set)).output == "So not."
    assert not paid.is_set()
    assert "nobody is asked" in model.told()[0]


def test_nobody_is_asked_about_what_is_refused_anyway() -> None:
    withheld = replace(sensitive("pay"), withheld="was refused to this tenant")
    for pay, arguments in ((withheld, {}), (sensitive("pay"), {"n": "much"})):
        model = Scripted([[("pay", arguments)], "So not."])

        assert run(model, pay, tools=["pay"], journal=Journal()).output == "So not."


def test_no_other_way_leads_around_an_approval() -> None:
    with pytest.raises(ToolNotAllowedError, match="a person has to agree"):
        sensitive("pay").call({})


def test_it_ends_after_its_turns() -> None:
    model = Scripted([[("calculator", {"expression": str(n)})] for n in range(3)])

    with pytest.raises(AgentLimitError) as caught:
        run(model, max_turns=2)

    assert caught.value.code == "turn_limit"
    assert not caught.value.retryable


def test_it_ends_after_its_tokens() -> None:
    model = Scripted([[("calculator", {"expression": "1"})], "One."])

    with pytest.raises(AgentLimitError) as caught:
        run(model, max_total_tokens=2)

    assert caught.value.code == "token_limit"


@pytest.mark.parametrize(
    "limits", [{"max_turns": 0}, {"max_turns": 1_001}, {"max_total_tokens": 0}]
)
def test_limits_that_are_none_are_refused(limits: dict[str, Any]) -> None:
    problems = ReactAgent().problems(replace(CONFIG, **limits), Toolbox((calculator,)))

    assert [each.field for each in problems] == [*limits]


def test_it_ends_after_its_time() -> None:
    with pytest.raises(AgentLimitError) as caught:
        run(Scripted([]), deadline_seconds=0.0)

    assert caught.value.code == "time_limit"
    assert caught.value.retryable


def test_unknown_tools_are_refused() -> None:
    problems = ReactAgent().problems(CONFIG, Toolbox())

    assert [(each.field, each.message) for each in problems] == [
        ("tools", "there is no tool 'calculator'")
    ]
    with pytest.raises(ToolNotAllowedError):
        run(Scripted([]), tools=["shell"])


def test_without_tools_it_answers_as_it_is_asked() -> None:
    model = Scripted(["Hello."])

    assert run(model, tools=[]).output == "Hello."
    assert model.requests[0].system == "Be brief."


def sensitive(name: str, work: Any = None) -> Tool:
    return replace(renamed(name, work), approval=CallApproval())


def renamed(name: str, work: Any = None, *, is_repeatable: bool = True) -> Tool:
    @tool(name=name, is_repeatable=is_repeatable)
    def spare(n: int = 0) -> None:
        """Do as the test says."""
        if work:
            work()

    return spare
