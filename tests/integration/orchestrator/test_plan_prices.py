"""What a draft costs: told by its plan and by its history, and held against a run's cap."""

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from costs.models import TenantPrice
from orchestrator.core.plan import plan_from_json
from orchestrator.models import AgentRun, Run, WorkflowVersion
from orchestrator.services.plan_prices import CapTooSmallError, check_cap
from tests.rest import get, made, post
from tests.run_rows import REPORT, make_run, published
from tests.world import World

MAX_OUTPUT = 1000
ASK = {
    "agent": {"type": "prompt", "provider": "simulated", "model": "paid"},
    "parameters": {"max_output_tokens": MAX_OUTPUT},
    "retry": {"attempts": 1},
}
INPUTS = {"type": "object", "properties": {"word": {"type": "string", "maxLength": 10}}}


@pytest.fixture
def paid(acme: World) -> World:
    """Acme, for whom the model `paid` has a price: 1 USD and 2 USD per million tokens."""
    with acme.scope():
        TenantPrice.objects.create(
            provider="simulated",
            model="paid",
            valid_from=date(2026, 1, 1),
            input_usd=Decimal(1),
            output_usd=Decimal(2),
        )
    return acme


def spec(steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"muster": 1, "name": "asking", "inputs": INPUTS, "steps": steps, **more}


def told(world: World, document: dict[str, Any]) -> dict[str, Any]:
    """What the API tells of a draft that was posted just now."""
    workflow = made(post(world.client(), "workflows", document))
    return made(get(world.client(), f"workflows/{workflow['id']}/plan"))


def told_again(world: World, version: WorkflowVersion) -> dict[str, Any]:
    return made(get(world.client(), f"workflows/{version.workflow_id}/plan"))["price"]


def saved(version: WorkflowVersion, world: World, **changes: Any) -> None:
    """Change the first step of the draft."""
    with world.scope():
        version.workflow.steps.filter(position=0).update(**changes)


def set_costs(world: World, run: Run, **nano: int) -> None:
    with world.scope():
        for name, amount in nano.items():
            AgentRun.objects.filter(run=run, step=name).update(cost_nano=amount)
        total = sum(AgentRun.objects.filter(run=run).values_list("cost_nano", flat=True))
        Run.objects.filter(id=run.id).update(cost_nano=total)


def ended(world: World, version: WorkflowVersion, **nano: int) -> Run:
    run = make_run(world, version, "completed", status="completed")
    set_costs(world, run, **nano)
    return run


def test_worst_case_is_what_the_prompt_and_the_answer_can_be(paid: World) -> None:
    inputs = {**INPUTS, "required": ["word"]}
    plan = told(paid, spec({"a": {**ASK, "prompt": "Say ${input.word}"}}, inputs=inputs))

    step = plan["price"]["steps"][0]

    # "Say " and ten letters of four bytes, two line ends, and what a provider may add.
    assert step["most_input_tokens"] == 4 + 40 + 2 + 528
    assert step["input_bound"] == "prompt"
    assert Decimal(step["worst_usd"]) == Decimal(574 + 2 * MAX_OUTPUT) / 1_000_000
    assert plan["price"]["worst_usd"] == step["worst_usd"]


def test_attempts_rounds_and_items_multiply(paid: World) -> None:
    one = {**ASK, "prompt": "x"}
    loop = {"steps": {"w": {**one, "retry": {"attempts": 2}}}, "until": "true", "max_rounds": 3}
    listed = {**one, "map": {"over": "${input.words}", "max_items": 5}}

    price = told(paid, spec({"one": one, "loop": {"loop": loop}, "map": listed}, inputs=None))[
        "price"
    ]

    single, looped, mapped = (Decimal(step["worst_usd"]) for step in price["steps"])
    assert (looped, mapped) == (6 * single, 5 * single)
    assert [step["most_calls"] for step in price["steps"]] == [1, 6, 5]
    assert Decimal(price["worst_usd"]) == 12 * single


def test_repairs_are_part_of_the_worst_case_and_not_of_the_cheapest_way(paid: World) -> None:
    form = {"type": "object"}
    shaped = {**ASK, "prompt": "x", "output_schema": form, "retry": {"attempts": 2}}
    once = {**shaped, "agent": {**ASK["agent"], "repairs": 0}}  # type: ignore[dict-item]
    route = {"type": "router", "provider": "simulated", "model": "paid", "routes": ["a", "b"]}
    judge = {**route, "type": "evaluator"} | {"repairs": 1}
    judge.pop("routes")
    steps = {
        "shaped": shaped,
        "once": once,
        "judge": {**ASK, "agent": judge, "needs": ["once"]},
        "route": {**ASK, "agent": route, "prompt": "Which?"},
    }

    price = told(paid, spec(steps))["price"]

    repaired, unrepaired, judged, routed = price["steps"]
    assert [step["most_calls"] for step in price["steps"]] == [4, 2, 2, 3]
    assert Decimal(repaired["worst_usd"]) > 2 * Decimal(unrepaired["worst_usd"])
    assert repaired["cheapest_usd"] == unrepaired["cheapest_usd"]
    # What it looks at has no length that could be told.
    assert (judged["input_bound"], routed["input_bound"]) == ("rendered_prompt", "prompt")
    assert price["notes"] == []


def test_map_without_a_bound_has_no_worst_case_but_one_an_item(paid: World) -> None:
    steps = {"a": {**ASK, "prompt": "${item}", "map": {"over": "${input.words}"}}}

    price = told(paid, spec(steps, inputs=None))["price"]

    assert (price["worst_usd"], price["cheapest_usd"]) == (None, "0")
    assert Decimal(price["steps"][0]["item_worst_usd"]) > 1
    assert price["steps"][0]["input_bound"] == "rendered_prompt"
    assert [note["code"] for note in price["notes"]] == ["open_map"]


def test_model_without_a_price_is_told(paid: World) -> None:
    stray = {"type": "prompt", "provider": "openai", "model": "no-such-model"}

    price = told(paid, spec({"a": {"agent": stray, "prompt": "x"}}))["price"]

    assert (price["worst_usd"], price["cheapest_usd"]) == (None, None)
    assert price["notes"][0]["code"] == "no_price"
    assert "`no-such-model`" in price["notes"][0]["message"]


def test_step_that_may_add_steps_has_no_worst_case(paid: World) -> None:
    steps = {"a": {**ASK, "prompt": "x", "adds_steps": True, "output_schema": {"type": "object"}}}

    price = told(paid, spec(steps))["price"]

    assert price["worst_usd"] is None
    assert price["cheapest_usd"] != "0"
    assert [note["code"] for note in price["notes"]] == ["adds_steps"]


def test_sub_workflow_costs_what_its_version_does(paid: World) -> None:
    child = spec({"a": {**ASK, "prompt": "x"}}, name="child")
    published(paid, {**child, "name": "child"})
    alone = told(paid, {**child, "name": "other"})["price"]

    price = told(paid, spec({"sub": {"workflow": "child@1"}}))["price"]

    assert price["worst_usd"] == alone["worst_usd"]
    assert price["least_cap_usd"] == alone["least_cap_usd"]


def test_draft_with_problems_has_a_graph_and_no_price(paid: World) -> None:
    plan = told(paid, spec({"a": {**ASK, "prompt": "${steps.gone.output}"}}))

    assert plan["levels"] == [["a"]]
    assert plan["price"] is None
    assert "1 problem" in plan["price_hindrance"]


def test_price_is_not_for_strangers(paid: World, globex: World) -> None:
    workflow = made(post(paid.client(), "workflows", spec({"a": {**ASK, "prompt": "x"}})))

    assert get(globex.client(), f"workflows/{workflow['id']}/plan").status_code == 404


# History


TWO = spec({"a": {**ASK, "prompt": "x"}, "b": {**ASK, "prompt": "y", "needs": ["a"]}})


def test_whole_runs_tell_what_to_expect(paid: World) -> None:
    version = published(paid, TWO)
    # What is dear in one step is dear in the other: the sums know, the steps alone would not.
    for cost in (100, 200, 300, 400, 500):
        ended(paid, version, a=cost, b=cost)

    price = told_again(paid, version)

    assert price["expected"]["method"] == "runs"
    assert price["expected"]["runs"] == 5
    assert price["expected"]["mean_usd"] == price["expected"]["p50_usd"] == "0.0000006"
    assert price["expected"]["p95_usd"] == "0.00000096"
    assert price["steps"][0]["expected"]["p95_usd"] == "0.00000048"
    assert price["expected_duration"] == {"seconds": 6.2, "critical_path": ["a", "b"]}


def test_few_runs_are_drawn_from_step_by_step_and_always_alike(paid: World) -> None:
    version = published(paid, TWO)
    for cost in (100, 200, 300):
        ended(paid, version, a=cost, b=1000)

    first, again = told_again(paid, version), told_again(paid, version)

    assert first == again
    assert first["expected"]["method"] == "draws"
    assert first["expected"]["mean_usd"] == "0.0000012"
    assert first["expected"]["p95_usd"] == "0.0000013"


def test_skipped_step_lowers_what_a_run_is_expected_to_cost_but_not_the_step(paid: World) -> None:
    steps = {"a": {**ASK, "prompt": "x"}, "b": {**ASK, "prompt": "y", "when": "input.go"}}
    version = published(paid, spec(steps, inputs=None))
    ended(paid, version, a=0, b=1000)
    skipped = make_run(paid, version, {"a": "completed", "b": "skipped"}, status="completed")
    set_costs(paid, skipped, a=0, b=0)

    price = told_again(paid, version)

    assert price["expected"]["mean_usd"] == "0.0000005"
    assert price["steps"][1]["expected"]["mean_usd"] == "0.000001"
    assert (price["steps"][1]["expected"]["runs"], price["steps"][1]["expected"]["of_runs"]) == (
        1,
        2,
    )


def test_another_model_makes_another_step(paid: World) -> None:
    version = published(paid, TWO)
    for _ in range(6):
        ended(paid, version, a=100, b=100)
    saved(version, paid, parameters={"max_output_tokens": 7})

    price = told_again(paid, version)

    assert price["expected"] is None
    assert price["without_history"] == ["a"]
    assert price["steps"][1]["expected"]["runs"] == 6


def test_another_prompt_does_not(paid: World) -> None:
    version = published(paid, TWO)
    ended(paid, version, a=100, b=100)
    saved(version, paid, prompt="Something else")

    assert told_again(paid, version)["without_history"] == []


def test_items_of_a_map_count_with_their_step(paid: World) -> None:
    step = {**ASK, "prompt": "x", "map": {"over": "${input.words}", "max_items": 9}}
    version = published(paid, spec({"a": step}, inputs=None))
    run = ended(paid, version, a=0)
    with paid.scope():
        whole = AgentRun.objects.get(run=run, step="a")
        for index in range(2):
            AgentRun.objects.create(
                run=run,
                step=f"a[{index}]",
                parent_id=whole.id,
                item_index=index,
                position=0,
                level=0,
                status="completed",
                cost_nano=300,
            )

    assert told_again(paid, version)["steps"][0]["expected"]["p50_usd"] == "0.0000006"


def test_replays_and_failed_runs_do_not_tell(paid: World) -> None:
    version = published(paid, TWO)
    good = ended(paid, version, a=100, b=100)
    replay = ended(paid, version, a=0, b=100)
    failed = make_run(paid, version, "failed", status="failed")
    with paid.scope():
        Run.objects.filter(id=replay.id).update(replay_of_id=good.id)

    price = told_again(paid, version)

    assert failed.status == "failed"
    assert price["expected"]["runs"] == 1


def test_workflow_that_never_ran_expects_nothing(acme: World) -> None:
    price = told(acme, REPORT)["price"]

    assert price["worst_usd"] == price["cheapest_usd"] == "0"
    assert price["expected"] is None
    assert price["expected_duration"] is None


# Caps


def plan_of(world: World, document: dict[str, Any]) -> Any:
    return plan_from_json(published(world, document).plan)


def test_cap_below_the_dearest_call_of_the_cheapest_way_is_refused(paid: World) -> None:
    plan = plan_of(paid, TWO)
    # One letter and two line ends are two tokens by estimate.
    needed = (2 + 2 * MAX_OUTPUT) * 1000

    with paid.scope():
        check_cap(plan, input={}, max_cost_nano=needed)
        with pytest.raises(CapTooSmallError) as refused:
            check_cap(plan, input={}, max_cost_nano=needed - 1)

    assert refused.value.least_nano == needed
    assert "needs 0.002002 USD" in str(refused.value)


def test_branch_that_the_input_closes_needs_no_cap(paid: World) -> None:
    plan = plan_of(paid, spec({"a": {**ASK, "prompt": "x", "when": "input.go"}}, inputs=None))

    with paid.scope():
        check_cap(plan, input={"go": False}, max_cost_nano=0)
        with pytest.raises(CapTooSmallError):
            check_cap(plan, input={"go": True}, max_cost_nano=0)


def test_items_that_are_given_have_to_be_paid(paid: World) -> None:
    step = {**ASK, "prompt": "${item}", "map": {"over": "${input.words}"}}
    plan = plan_of(paid, spec({"a": step}, inputs=None))
    words = ["much to read " * 40_000] * 20

    with paid.scope():
        check_cap(plan, input={"words": []}, max_cost_nano=0)
        with pytest.raises(CapTooSmallError) as refused:
            check_cap(plan, input={"words": words}, max_cost_nano=10**8)

    assert refused.value.least_nano == 20 * (520_002 // 16) * 1000


def test_cap_is_not_held_against_what_has_no_price(paid: World) -> None:
    plan = plan_of(paid, TWO)

    with paid.scope():
        TenantPrice.objects.all().delete()
        check_cap(plan, input={}, max_cost_nano=0, rows=())
