"""Which rules of a ladder hold, what they do, and which of them make sense."""

from typing import Any

import pytest

from orchestrator.core.degrade import CapUse, Rung, Standing, shortened
from orchestrator.core.parsing import spec_from_mapping
from orchestrator.core.plan import PlannedStep, compile_plan, plan_from_json, plan_to_json
from orchestrator.core.scheduling import Progress, ready
from orchestrator.core.spec import Ask, DegradeRule, ModelChoice
from orchestrator.core.validation import Catalog, examine

CAP = 1_000
CHEAP, CHEAPEST = (ModelChoice(provider="p", model=name) for name in ("cheap", "cheapest"))
LADDER = (
    DegradeRule(at=0.5, use=CHEAP),
    DegradeRule(at=0.5, map_items=0.7),
    DegradeRule(at=0.7, use=CHEAPEST),
    DegradeRule(at=0.8, skip="optional"),
    DegradeRule(at=0.9, ask=Ask(roles=["owner", "admin"])),
)
AGENT = {"agent": {"type": "prompt", "provider": "simulated", "model": "sim"}, "prompt": "Hi"}


def standing(spent: int, held: int = 0) -> Standing:
    use = CapUse(spent_nano=spent, held_nano=held, limit_nano=CAP)
    return Standing(ladder=LADDER, use=use)


def numbers(at: Standing) -> dict[str, int]:
    found = {action: at.rung(action) for action in ("use", "map_items", "skip", "ask")}
    return {action: rung.number for action, rung in found.items() if rung}


@pytest.mark.parametrize(
    ("spent", "held", "reached"),
    [
        (499, 0, {}),
        (500, 0, {"use": 1, "map_items": 2}),
        (0, 500, {"use": 1, "map_items": 2}),
        (400, 300, {"use": 3, "map_items": 2}),
        (800, 0, {"use": 3, "map_items": 2, "skip": 4}),
        (1000, 0, {"use": 3, "map_items": 2, "skip": 4, "ask": 5}),
    ],
)
def test_last_rule_of_each_kind_that_is_reached_holds(
    spent: int, held: int, reached: dict[str, int]
) -> None:
    assert numbers(standing(spent, held)) == reached


def test_nothing_holds_without_a_cap_in_force() -> None:
    assert numbers(Standing(ladder=LADDER)) == {}
    assert Standing(ladder=LADDER).rung_for_call(lambda _: CAP) is None


def test_everything_holds_at_a_cap_of_nothing() -> None:
    at = Standing(ladder=LADDER, use=CapUse(spent_nano=0, held_nano=0, limit_nano=0))

    assert len(numbers(at)) == 4
    assert at.use is not None
    assert at.use.share == 1.0


@pytest.mark.parametrize("share", [0.07, 0.29, 0.57, 0.58])
def test_share_is_reached_as_it_was_written(share: float) -> None:
    exactly = round(share * 100) * 10**7

    assert CapUse(spent_nano=exactly, held_nano=0, limit_nano=10**9).reaches(share)
    assert not CapUse(spent_nano=exactly - 1, held_nano=0, limit_nano=10**9).reaches(share)


@pytest.mark.parametrize(("items", "kept"), [(0, 0), (1, 1), (10, 7), (11, 8), (100, 70)])
def test_list_is_cut_down_to_its_share_and_never_to_nothing(items: int, kept: int) -> None:
    assert Rung(number=2, rule=LADDER[1]).kept(items) == kept


@pytest.mark.parametrize(
    ("spent", "needs", "number"),
    [
        (0, {None: 1000, "cheap": 1, "cheapest": 1}, None),
        (1, {None: 1000, "cheap": 999, "cheapest": 1}, 1),
        (2, {None: 1000, "cheap": 999, "cheapest": 1}, 3),
        (500, {None: 1, "cheap": 501, "cheapest": 1}, 3),
        # Nothing fits: what is reached stays, and the cap refuses the call.
        (500, {None: 501, "cheap": 501, "cheapest": 501}, 1),
        (700, {None: 1, "cheap": 1, "cheapest": 301}, 3),
    ],
)
def test_call_that_never_fits_goes_to_a_model_further_down(
    spent: int, needs: dict[str | None, int], number: int | None
) -> None:
    rung = standing(spent).rung_for_call(lambda use: needs[use.model if use else None])

    assert (rung.number if rung else None) == number


def test_call_waits_for_what_others_hold_rather_than_going_down() -> None:
    at = standing(0, held=400)

    assert at.rung_for_call(lambda use: 1 if use else 700) is None


def test_people_read_the_figures() -> None:
    at = Standing(
        ladder=LADDER, use=CapUse(spent_nano=480 * 10**6, held_nano=0, limit_nano=5 * 10**8)
    )
    rung = at.rung("ask")
    assert rung is not None
    assert rung.rule.ask is not None

    assert at.question(rung, rung.rule.ask) == (
        "It has used 96 % of its 0.5 USD (0.48 USD are spent or held), and from 90 % on, its "
        "workflow asks a person. An owner or admin may resume it, or cancel it"
    )
    assert shortened(Rung(number=2, rule=LADDER[1]), at.use, items=10) == (
        "Only the first 7 of 10 items: the run has used 96 % of its 0.5 USD, and from 50 % on, "
        "its workflow cuts optional maps down"
    )


def spec(degrade: Any, **fields: Any) -> dict[str, Any]:
    steps = {
        "a": AGENT,
        "extra": {**AGENT, "needs": ["a"], "optional": True},
        "each": {**AGENT, "map": {"over": "${input.items}"}, "optional": True},
    }
    header = {"muster": 1, "name": "w", "max_cost_usd": "1", "strategy": "adaptive"}
    return {**header, "steps": steps, "degrade": degrade, **fields}


def found(written: dict[str, Any]) -> set[tuple[str, str]]:
    catalog = Catalog(providers={"simulated": True}, knows_model=lambda _, model: model != "x")
    report = examine(written, catalog)
    return {(problem.loc, problem.code) for problem in [*report.problems, *report.unsupported]}


def use(model: str = "sim", provider: str = "simulated") -> dict[str, Any]:
    return {"use": {"provider": provider, "model": model}}


GOOD = [
    {"at": 0.7, **use()},
    {"at": 0.8, "map_items": 0.5},
    {"at": 0.8, "skip": "optional"},
    {"at": 0.95, "ask": {"roles": ["admin"], "expires": "1h"}},
]


def test_ladder_that_makes_sense_can_be_published() -> None:
    assert found(spec(GOOD)) == set()


@pytest.mark.parametrize(
    ("rules", "problems"),
    [
        ([{"at": 0, **use()}], {("/degrade/0/at", "out_of_range")}),
        ([{"at": 1, **use()}], {("/degrade/0/at", "out_of_range")}),
        ([{"at": 0.5, "map_items": 0}], {("/degrade/0/map_items", "out_of_range")}),
        ([{"at": 0.5, "map_items": 1}], {("/degrade/0/map_items", "out_of_range")}),
        ([*GOOD, {"at": 0.5, **use("other")}], {("/degrade/4/at", "not_rising")}),
        ([*GOOD, {"at": 0.96, "skip": "optional"}], {("/degrade/4/skip", "duplicate_rule")}),
        ([*GOOD, {**GOOD[3], "at": 0.97}], {("/degrade/4/ask", "duplicate_rule")}),
        ([GOOD[0], GOOD[0]], {("/degrade/1/use", "duplicate_rule")}),
        ([{"at": 0.5, **use("x")}], {("/degrade/0/use/model", "unknown_model")}),
        ([{"at": 0.5, **use("auto")}], {("/degrade/0/use/model", "not_applicable")}),
        ([{"at": 0.5, **use(provider="q")}], {("/degrade/0/use/provider", "unknown_provider")}),
        ([{"at": 0.5, "ask": {"roles": ["viewer"]}}], {("/degrade/0/ask/roles", "cannot_resume")}),
    ],
)
def test_rule_that_makes_no_sense_is_named(rules: Any, problems: set[tuple[str, str]]) -> None:
    assert found(spec(rules)) == problems


@pytest.mark.parametrize(
    "rules",
    [
        [{"at": 0.5}],
        [{"at": 0.5, "use": None}],
        [{"at": 0.5, "use": None, "skip": None}],
        [{"at": 0.5, **use(), "skip": "optional"}],
        [{"at": "half", **use()}],
        [{"at": float("nan"), **use()}],
        [{"at": 0.5, "skip": "all"}],
        [{"at": 0.5, "ask": {"roles": []}}],
        [{"at": 0.5, "ask": {"roles": ["admin"], "expires": "0s"}}],
        {"at": 0.5},
    ],
)
def test_rule_that_is_none_is_refused(rules: Any) -> None:
    assert found(spec(rules))


def test_problems_of_a_ladder_are_told_all_at_once() -> None:
    written = spec([{"at": 2, "skip": "optional"}, {"at": 0.5, "map_items": 0.5}])
    assert {loc for loc, _ in found(written)} == {"/degrade/0/at"}

    plain = spec(
        [{"at": 1, "skip": "optional"}, {"at": 0.5, "map_items": 1}],
        steps={"a": AGENT},
    )
    del plain["max_cost_usd"]

    assert found(plain) == {
        ("/max_cost_usd", "required"),
        ("/degrade/0/at", "out_of_range"),
        ("/degrade/0/skip", "nothing_optional"),
        ("/degrade/1/at", "not_rising"),
        ("/degrade/1/map_items", "out_of_range"),
        ("/degrade/1/map_items", "nothing_optional"),
    }


def test_output_of_an_optional_step_needs_a_default() -> None:
    reads = spec(GOOD, output="${steps.extra.output}")

    assert found(reads) == {("/output", "may_be_missing")}


def test_plan_keeps_the_ladder_and_has_optional_steps_decided_by_advance() -> None:
    plan = compile_plan(spec_from_mapping(spec(GOOD)), {})

    assert plan_from_json(plan_to_json(plan)) == plan
    assert [rule.at for rule in plan.degrade] == [0.7, 0.8, 0.8, 0.95]
    assert plan.step("a").next_steps == ()
    assert plan.step("a").tells


def test_optional_steps_alone_are_skipped() -> None:
    plan = compile_plan(spec_from_mapping(spec(GOOD)), {})

    decision = ready(plan, Progress(skips="too dear"))

    assert decision.dispatch == ("a",)
    assert decision.skip == {"each": "too dear"}


def test_older_plans_have_no_ladder() -> None:
    plan = compile_plan(spec_from_mapping(spec(GOOD)), {})
    written = plan_to_json(plan)
    del written["degrade"]
    for step in written["steps"]:
        del step["optional"]

    read = plan_from_json(written)

    assert read.degrade == ()
    assert not any(step.optional for step in read.steps if isinstance(step, PlannedStep))
