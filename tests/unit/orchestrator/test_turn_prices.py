"""What agents cost at most that work in turns, hand out tasks, or are bounded by caps."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from agents_app.core.agent import AgentConfig
from agents_app.core.tools import Tool, tool
from agents_app.tools.text_completion import text_completion
from costs.core.pricing import Price
from orchestrator.core.handed_price import team_of
from orchestrator.core.parsing import spec_from_mapping
from orchestrator.core.plan import compile_plan
from orchestrator.core.plan_price import plan_price
from orchestrator.core.prices import PlanPrice, Priceable, StepPrice, Terms

MOST_ADDED = 200
WINDOWS = {"narrow": 1_000}
PRICES = {name: Price(input=Decimal(1), output=Decimal(2)) for name in ("plain", "narrow")}
PRICES["dear"] = Price(input=Decimal(3), output=Decimal(6))
SAVED = {
    "leaf": AgentConfig(type="prompt"),
    "lead": AgentConfig(type="react", delegates=["leaf"], delegate_cost_usd="0.5"),
    "loose": AgentConfig(type="react", delegates=["leaf"]),
    "twin": AgentConfig(type="react", delegates=["twin"], delegate_cost_usd="0.1"),
}
USD = 10**9


@tool(max_result_bytes=100)
def peek(where: str) -> str:
    """Look somewhere."""
    return where


def terms() -> Terms:
    tools: dict[str, Tool] = {"peek": peek, "text_completion": text_completion}
    return Terms(
        price_of=lambda _, model: PRICES.get(model),
        window_of=lambda _, model: WINDOWS.get(model),
        workflow_of=lambda _: Priceable(plan=compile_plan(spec_from_mapping(spec({})), {}, {})),
        attempts=1,
        max_added_steps=MOST_ADDED,
        tool_of=tools.get,
        team_of=lambda slug: team_of(SAVED[slug]),
    )


def spec(agent: Mapping[str, Any], step: Mapping[str, Any] | None = None, **more: Any) -> Any:
    written = {"type": "react", "provider": "p", "model": "plain", **agent}
    one = {"agent": written, "prompt": "Work.", "parameters": {"max_output_tokens": 100}}
    return {"name": "acme", "steps": {"a": {**one, **(step or {})}}, **more}


def priced(
    agent: Mapping[str, Any], step: Mapping[str, Any] | None = None, **more: Any
) -> PlanPrice:
    plan = compile_plan(spec_from_mapping(spec(agent, step, **more)), {}, {})
    return plan_price(Priceable(plan=plan), terms())


def only(agent: Mapping[str, Any], step: Mapping[str, Any] | None = None) -> StepPrice:
    return priced(agent, step).steps[0]


def worst(agent: Mapping[str, Any], step: Mapping[str, Any] | None = None) -> int:
    amounts = only(agent, step).amounts
    assert amounts.worst is not None
    assert amounts.notes == ()
    return amounts.worst


def test_every_turn_reads_more_than_the_one_before() -> None:
    one, two, three = (worst({"max_turns": turns}) for turns in (1, 2, 3))

    assert two - one > one
    assert three - two > two - one
    assert only({"max_turns": 3}).amounts.calls == 3


def test_failed_attempts_are_as_dear_as_the_last_turn() -> None:
    once, twice = (worst({"max_turns": 3}, {"retry": {"attempts": n}}) for n in (1, 2))

    assert twice - once == worst({"max_turns": 3}) - worst({"max_turns": 2})


def test_results_of_tools_are_read_again_as_far_as_they_may_be_long() -> None:
    plain, acting = worst({"max_turns": 5}), worst({"max_turns": 5, "tools": ["peek"]})

    # Ten times over (1 + 2 + 3 + 4), sixteen calls a turn bring 100 bytes at least each.
    assert acting - plain > 10 * 16 * 100 * 1_000
    assert acting < 1 * USD


def test_window_memory_and_tokens_bound_what_is_read() -> None:
    agent = {"max_turns": 50, "tools": ["peek"]}
    free = worst(agent)

    assert worst({**agent, "model": "narrow"}) == 50 * (1_000 + 2 * 100) * 1_000
    assert worst({**agent, "memory": {"max_tokens": 1_000}}) < free / 10
    assert worst({**agent, "max_total_tokens": 10_000}) < free / 10


def test_cap_of_a_step_bounds_its_calls() -> None:
    agent = {"max_turns": 50, "tools": ["peek"]}

    assert worst(agent, {"max_cost_usd": "0.02"}) == USD // 50
    assert worst({"max_turns": 1}, {"max_cost_usd": "5"}) == worst({"max_turns": 1})
    assert worst({"type": "prompt"}, {"max_cost_usd": "0.0000001"}) == 100


def test_cap_counts_for_each_item() -> None:
    each = {"map": {"over": "${input.words}", "max_items": 3}, "max_cost_usd": "0.02"}

    assert worst({"max_turns": 50, "tools": ["peek"]}, each) == 3 * USD // 50


def test_own_code_is_bounded_by_the_cap_alone() -> None:
    agent = {"type": "custom", "implementation": "mine"}

    assert [note.code for note in only(agent).amounts.notes] == ["own_code"]
    assert only(agent).amounts.worst is None
    assert worst(agent, {"max_cost_usd": "0.02"}) == USD // 50


def test_what_tools_ask_models_is_bounded_by_the_cap_alone() -> None:
    agent = {"max_turns": 2, "tools": ["peek", "text_completion"]}
    fallback = {"fallback": [{"provider": "p", "model": "dear"}]}
    amounts = only(agent, fallback).amounts

    assert (amounts.worst, amounts.calls) == (None, None)
    ((code, told),) = [(note.code, note.message) for note in amounts.notes]
    assert (code, "(text_completion)" in told) == ("asks_models", True)
    assert amounts.least == only({"max_turns": 2, "tools": ["peek"]}).amounts.least
    assert worst(agent, {"max_cost_usd": "0.02"}) == USD // 50


def test_step_that_nobody_is_known_to_take_has_no_price() -> None:
    amounts = only({}, {"agent": {"capability": "law"}}).amounts

    assert (amounts.worst, amounts.least) == (None, None)
    assert [note.code for note in amounts.notes] == ["no_agent"]


def test_cap_of_the_workflow_bounds_the_run() -> None:
    agent = {"type": "custom", "implementation": "mine"}

    capped = priced(agent, max_cost_usd="0.30")

    assert (capped.amounts.worst, capped.amounts.notes) == (3 * USD // 10, ())
    assert capped.steps[0].amounts.worst is None


@pytest.mark.parametrize("agent", [{"delegates": ["leaf"]}, {"type": "planner"}])
def test_tasks_without_a_bound_have_no_worst_case(agent: dict[str, Any]) -> None:
    amounts = only(agent, {"max_cost_usd": "1"}).amounts

    assert (amounts.worst, [note.code for note in amounts.notes]) == (None, ["hands_out"])


@pytest.mark.parametrize(
    ("agent", "tasks", "each"),
    [
        ({"delegates": ["leaf"], "delegate_cost_usd": "0.1", "max_turns": 3}, 2 * 16, USD // 10),
        ({"workflows": ["w"], "delegate_cost_usd": "0.1", "max_turns": 2}, 16, USD // 10),
        ({"delegates": ["leaf"], "delegate_cost_usd": "0.1", "max_turns": 1}, 0, USD // 10),
        ({"delegates": ["lead"], "delegate_cost_usd": "0.1", "max_turns": 3}, 200, USD // 2),
        ({"delegates": ["twin"], "delegate_cost_usd": "0.2", "max_turns": 3}, 200, USD // 5),
        ({"type": "planner", "delegate_cost_usd": "0.1", "max_turns": 3}, 2 * 20, USD // 10),
        (
            {"type": "planner", "delegate_cost_usd": "0.1", "max_turns": 3, "max_tasks": 5},
            10,
            USD // 10,
        ),
        ({"type": "planner", "delegate_cost_usd": "0.1", "max_turns": 99}, 200, USD // 10),
    ],
)
def test_tasks_cost_as_much_as_each_may_and_as_many_as_there_may_be(
    agent: dict[str, Any], tasks: int, each: int
) -> None:
    # What the agent itself costs stays within its cap.
    assert worst(agent, {"max_cost_usd": "0.000001"}) == 1_000 + tasks * each


def test_whom_nothing_bounds_further_down_is_told() -> None:
    agent = {"delegates": ["loose"], "delegate_cost_usd": "0.1"}

    assert [note.code for note in only(agent).amounts.notes] == ["hands_out"]


def test_dearer_model_on_the_ladder_counts_at_the_worst() -> None:
    use = {"at": 0.5, "use": {"provider": "p", "model": "dear"}}
    agent = {"max_turns": 3}

    laddered = priced(agent, max_cost_usd="100", degrade=[use]).steps[0].amounts
    other = only({**agent, "model": "dear"}).amounts

    assert (laddered.worst, laddered.least) == (other.worst, only(agent).amounts.least)


def test_ladder_to_a_model_without_a_price_is_told() -> None:
    use = {"at": 0.5, "use": {"provider": "p", "model": "stray"}}

    laddered = priced({}, max_cost_usd="100", degrade=[use]).steps[0].amounts

    assert [note.code for note in laddered.notes] == ["no_price"]
