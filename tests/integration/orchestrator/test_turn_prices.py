"""What agents in turns are told to cost at most, held against what they cost and who is asked."""

from decimal import Decimal
from typing import Any

import pytest
from pydantic import JsonValue

from agents_app.services.agents import create_agent
from costs.models import TenantPrice
from orchestrator.models import Approval
from tests.e2e.stories import start
from tests.engine_driver import drain, open_limiter
from tests.integration.orchestrator.test_engine_delegation import Crowd, crowd, priced, work
from tests.integration.orchestrator.test_engine_planner import GOAL, answer, begin, plan
from tests.integration.orchestrator.test_objectives import _simulated, begun
from tests.integration.orchestrator.test_plan_prices import paid, spec, told
from tests.world import World

__all__ = ["_simulated", "crowd", "paid", "priced"]

MODEL: dict[str, JsonValue] = {"provider": "simulated", "model": "paid"}


def says(turns: int) -> list[dict[str, Any]]:
    """So many turns that call a tool with a long text, and a long answer."""
    call = {"name": "echo", "arguments": {"value": "long " * 200}}
    return [*({"tool_calls": [call, call]} for _ in range(turns)), {"text": "Done. " * 100}]


def test_no_conversation_costs_more_than_its_worst_case(paid: World) -> None:
    agent = {"type": "react", **MODEL, "tools": ["echo"], "max_turns": 4}
    step = {"agent": agent, "prompt": "Go on.", "parameters": {"max_output_tokens": 2_000}}
    price = told(paid, spec({"a": step}))["price"]
    open_limiter()

    step["parameters"] = {**step["parameters"], "script": says(3)}  # type: ignore[dict-item]
    run = drain(paid, start(paid, {"a": step}))

    assert run.status == "completed"
    assert price["most_calls"] >= 4
    assert price["notes"] == []
    assert 0 < run.cost_nano < float(price["worst_usd"]) * 10**9


def test_draft_tells_what_its_planner_hands_out_at_most(paid: World) -> None:
    agent = {"type": "planner", **MODEL, "max_turns": 2, "max_tasks": 3}
    loose = told(paid, spec({"a": {"agent": agent, "prompt": "Plan."}}))["price"]
    bound = {**agent, "delegate_cost_usd": "0.1"}
    step = {"agent": bound, "prompt": "Plan.", "max_cost_usd": "0.2"}

    price = told(paid, spec({"a": step}, name="bound"))["price"]

    assert (loose["worst_usd"], loose["notes"][0]["code"]) == (None, "hands_out")
    assert (price["worst_usd"], price["notes"]) == ("0.5", [])


def test_saved_agent_that_hands_on_counts(paid: World) -> None:
    with paid.scope():
        create_agent(slug="digger", type="prompt", provider="simulated", model="paid")
        create_agent(
            slug="boss",
            type="react",
            provider="simulated",
            model="paid",
            settings={"delegates": ["digger"]},
        )
    asks = {"type": "react", **MODEL, "delegates": ["boss"], "delegate_cost_usd": "0.1"}

    price = told(paid, spec({"a": {"agent": asks, "prompt": "Ask."}}))["price"]

    assert [note["code"] for note in price["notes"]] == ["hands_out"]


DIG = plan({"id": "dig", "tools": ["calculator"]})


@pytest.mark.usefixtures("_simulated")
@pytest.mark.parametrize(
    ("output_usd", "limits", "asks"),
    [
        (1, {}, False),
        (100, {}, True),
        # Whatever is planned, the run may not cost more.
        (100, {"max_cost_usd": "1"}, False),
        (100, {"max_cost_usd": "1.01"}, True),
    ],
)
def test_objective_asks_only_if_its_worst_case_is_dear(
    acme: World, crowd: Crowd, output_usd: int, limits: dict[str, Any], asks: bool
) -> None:
    with acme.scope():
        TenantPrice.objects.create(
            provider="simulated",
            model="*",
            valid_from="2020-01-01",
            input_usd=Decimal(0),
            output_usd=Decimal(output_usd),
        )
    crowd.scripts["<objective>"] = [DIG, answer("Gold.")]
    run_id = begun(acme, objective="Find gold.", approve_above_usd="1", **limits)
    work(acme, run_id)

    with acme.scope():
        assert Approval.objects.filter(run_id=run_id).exists() is asks


@pytest.mark.usefixtures("priced")
@pytest.mark.parametrize(("above", "asks"), [("1", False), ("0.05", True)])
def test_plan_of_agents_with_tools_asks_only_if_it_may_be_dear(
    acme: World, crowd: Crowd, above: str, asks: bool
) -> None:
    crowd.scripts[GOAL] = [DIG, answer("Gold.")]
    run_id = begin(acme, approve_above_usd=above)
    work(acme, run_id)

    with acme.scope():
        assert Approval.objects.filter(run_id=run_id).exists() is asks
