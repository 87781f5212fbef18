"""What the storm's verdict rests on: how a flow has to end."""

import json
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any, Literal

import pytest

from agents_app.core.agent import AgentConfig
from orchestrator.chaos.flows import LEAF, Flow, Verdict, Vertex, asked_as, place_of
from orchestrator.chaos.oracle import Ending, ending
from orchestrator.chaos.shapes import flows
from orchestrator.chaos.specs import spec_of
from orchestrator.chaos.teams import saved_agents
from orchestrator.core.additions import Fragment
from orchestrator.core.validation import Catalog, examine

CATALOG = Catalog(
    agents={
        fields["slug"]: AgentConfig(
            **{name: value for name, value in fields.items() if name not in ("slug", "settings")},
            **fields.get("settings", {}),
        )
        for fields in saved_agents()
    },
    tools={"echo": {"properties": {"value": {}}}},
    providers={"compatible": True},
    workflows={LEAF: frozenset({1})},
)


def flow(*vertices: Vertex, **fields: object) -> Flow:
    return Flow(name="f", vertices=vertices, strategy="adaptive", **fields)


def statuses(*vertices: Vertex) -> list[str]:
    return list(ending(flow(*vertices), "r1").steps.values())


def test_failed_need_bars_those_that_need_all() -> None:
    bad, good = Vertex(name="bad", failing=True), Vertex(name="good")

    after = Vertex(name="after", needs=("bad", "good"))

    assert statuses(bad, good, after) == ["failed", "completed", "skipped"]


def test_one_completed_need_is_enough_for_any() -> None:
    bad, good = Vertex(name="bad", failing=True), Vertex(name="good")

    after = Vertex(name="after", needs=("bad", "good"), join="any")

    assert statuses(bad, good, after) == ["failed", "completed", "completed"]


def test_branch_not_taken_is_no_failure_for_what_joins_it() -> None:
    choose = Vertex(name="choose", route="left")
    left = Vertex(name="left", needs=("choose",), runs_if="left")
    right = Vertex(name="right", needs=("choose",), runs_if="right")

    both = Vertex(name="both", needs=("left", "right"), kind="gather")

    assert statuses(choose, left, right, both) == [
        *("completed", "completed", "skipped", "completed")
    ]


@pytest.mark.parametrize(
    ("ratio", "status"),
    [(0.5, "partially_completed"), (0.2, "failed"), (1.0, "partially_completed")],
)
def test_share_of_failed_steps_decides_over_the_run(ratio: float, status: str) -> None:
    some = flow(Vertex(name="a", failing=True), Vertex(name="b"), max_failed_ratio=ratio)

    assert ending(some, "r1").status == status


def test_outputs_are_handed_on() -> None:
    one, echo = Vertex(name="one", route="left"), Vertex(name="two", kind="echo", needs=("one",))

    outputs = ending(flow(one, echo), "r7").outputs

    assert outputs["two"] == {"route": "left", "said": "one of r7"}


@pytest.mark.parametrize("seed", range(20))
def test_every_flow_can_be_published_and_whatever_it_adds_can_run(seed: int) -> None:
    for made in flows(Random(seed), 22):
        for spec in (spec_of(made), *additions(made)):
            report = examine(spec, CATALOG)
            assert [*report.problems, *report.unsupported] == []


def additions(flow: Flow) -> Iterator[dict[str, Any]]:
    """The steps that a flow adds, each lot with the step that adds them, as they are examined."""
    for vertex in flow.vertices:
        if vertex.kind == "add":
            added = replace(flow, vertices=vertex.adds)
            by = Fragment(
                by=vertex.name,
                header=spec_of(flow),
                steps=spec_of(added)["steps"],
                output=spec_of(added)["output"],
            )
            assert by.by not in by.names
            yield by.as_workflow()
            yield from additions(added)


def test_all_strategies_and_shapes_are_among_the_flows() -> None:
    made = flows(Random(1), 40)

    assert {one.strategy for one in made} == {"sequential", "levels", "adaptive"}
    assert {one.mode for one in made} == {"partial", "fail_fast"}
    assert len({one.name.rpartition("-")[0] for one in made[1:]}) == 20


def test_map_fails_when_more_items_do_than_may() -> None:
    items = (True, False, False)
    listed = Vertex(name="list", kind="list", items=items)
    mapped = {"kind": "map", "needs": ("list",), "items": items}

    strict = ending(flow(listed, Vertex(name="each", **mapped)), "r1")
    kind = ending(flow(listed, Vertex(name="each", allow_failed=0.5, **mapped)), "r1")

    assert strict.steps["each"] == "failed"
    assert [item and item["said"] for item in kind.outputs["each"]] == [
        *(None, "each[1] of r1", "each[2] of r1")
    ]


CALLEE = flow(
    Vertex(name="top", fails_if="${input.failing ?? false}"), Vertex(name="end", needs=("top",))
)


def mapped(of: Literal["loop", "call"], *, lost: str = "") -> Ending:
    items = (False, True, False)
    each = Vertex(
        name="each", kind="map", of=of, needs=("list",), items=items, allow_failed=0.5, rounds=1
    )
    made = flow(Vertex(name="list", kind="list", items=items), each, max_failed_ratio=1.0)
    return ending(made, "r1", leaf=CALLEE, lost=frozenset({lost}))


def test_map_runs_a_workflow_for_each_item_under_a_marker_of_its_own() -> None:
    first, failed, last = mapped("call").outputs["each"]

    assert first["last"]["said"] == "end of r1/each[0]"
    assert failed is None
    assert last["last"]["said"] == "end of r1/each[2]"


def test_map_goes_round_for_each_item() -> None:
    first, failed, _ = mapped("loop").outputs["each"]

    assert (first["said"], failed) == ("each[0].1.write of r1", None)
    assert asked_as("each[0][0].write") == "each[0].1.write"


@pytest.mark.parametrize(("of", "place"), [("loop", "each[2][0].read"), ("call", "each[2]/top")])
def test_item_fails_when_a_step_of_it_is_given_up(of: Literal["loop", "call"], place: str) -> None:
    assert mapped(of).steps["each"] == "completed"
    assert mapped(of, lost=place).steps["each"] == "failed"


def adding(*adds: Vertex, lost: str = "") -> Ending:
    plan = Vertex(name="plan", kind="add", adds=adds)
    return ending(flow(plan, max_failed_ratio=0.5), "r1", lost=frozenset({lost}))


def test_added_steps_end_below_the_one_that_adds_them() -> None:
    one, two = Vertex(name="one"), Vertex(name="two", kind="echo", needs=("one",))

    ended = adding(one, two)

    assert ended.steps == dict.fromkeys(("plan", "plan.one", "plan.two"), "completed")
    assert ended.outputs["plan"]["last"]["said"] == "plan.one of r1"


@pytest.mark.parametrize(
    ("failing", "lost", "status"),
    [(1, "", "completed"), (2, "", "failed"), (1, "plan.good", "failed"), (0, "plan", "failed")],
)
def test_step_fails_with_too_many_of_those_it_has_added(
    failing: int, lost: str, status: str
) -> None:
    bad = [Vertex(name=f"bad{number}", failing=True) for number in range(failing)]

    assert adding(*bad, Vertex(name="good"), lost=lost).steps["plan"] == status


def handing(*, is_poor: bool = False, lost: str = "", failing: bool = False) -> Ending:
    adds = (
        Vertex(name="dig", failing=failing),
        Vertex(name="wash", needs=("dig",), is_made=True),
    )
    later = (Vertex(name="sell"),)
    plan = Vertex(name="plan", kind="plan", adds=adds, adds_later=later, is_poor=is_poor)
    return ending(flow(plan), "r1", lost=frozenset({lost}))


def test_whoever_hands_out_answers_with_all_that_came_of_it() -> None:
    ended = handing()

    assert (ended.status, ended.turns) == (
        "completed",
        {"plan": 3, "plan.1.dig": 1, "plan.1.wash": 1, "plan.2.sell": 1},
    )
    dug, washed, sold = ended.outputs["plan"]["heard"]
    assert [dug["said"], washed["said"], sold["said"]] == [
        *("plan.1.dig of r1", "plan.1.wash of r1", "plan.2.sell of r1")
    ]
    assert json.loads(ended.outputs["plan.1.wash"]) == washed


@pytest.mark.parametrize("why", [{"failing": True}, {"is_poor": True}, {"lost": "plan.1.dig"}])
def test_what_fails_below_is_told_and_fails_nothing_else(why: dict[str, Any]) -> None:
    ended = handing(**why)

    assert ended.status == "completed"
    assert ended.outputs["plan"]["heard"][:2] == ["failed", "skipped"]


def test_what_was_given_up_has_done_what_it_has() -> None:
    ended = handing(lost="plan")

    assert (ended.steps["plan"], ended.steps["plan.1.dig"]) == ("failed", "completed")


def test_nothing_is_handed_out_too_deep() -> None:
    deep = Vertex(name="hand")
    for _ in range(4):
        deep = Vertex(name="lead", kind="delegate", adds=(deep,))

    ended = ending(flow(deep), "r1")

    assert "lead.1.lead.1.lead.1.lead" in ended.steps
    assert "lead.1.lead.1.lead.1.lead.1.hand" not in ended.steps
    heard = ended.outputs["lead"]["heard"]
    assert heard[0]["heard"][0]["heard"][0]["heard"] == ["failed"]


def test_what_is_handed_out_anew_has_the_place_of_the_first() -> None:
    assert place_of("plan.30001.lead.20002.dig") == "plan.1.lead.2.dig"
    assert asked_as("plan.30001.dig") == "plan.1.dig"


@pytest.mark.parametrize(
    ("verdict", "failing", "status"),
    [
        ("approve", False, "completed"),
        ("reject", False, "completed"),
        ("reject", True, "failed"),
        ("expire", False, "completed"),
        ("expire", True, "failed"),
    ],
)
def test_question_ends_as_people_and_the_workflow_say(
    verdict: Verdict, failing: bool, status: str
) -> None:
    question = Vertex(name="ok", kind="approval", verdict=verdict, failing=failing)

    assert statuses(question) == [status]


def test_loop_gives_the_answer_of_its_last_round() -> None:
    looping = flow(Vertex(name="polish", kind="loop", rounds=2))

    assert ending(looping, "r1").outputs["polish"]["said"] == "polish.2.write of r1"
    assert asked_as("polish[1].write") == "polish.2.write"
    assert asked_as("each[1]") == "each[1]"
