"""Replaying an ended run from one of its steps, against the real database."""

from datetime import date
from typing import Any
from uuid import UUID

import pytest

from costs.models import Budget, CostEntry, TenantPrice
from orchestrator.models import AgentRun, Gate, Run, RunEvent
from orchestrator.services.control import RunStateError, retry_run
from orchestrator.services.errors import InputInvalidError
from orchestrator.services.replay import plan_replay, replay_run
from tests.e2e.stories import echo, simulated, start, statuses
from tests.engine_driver import drain, run_of, step_of
from tests.integration.orchestrator.test_engine_control import act
from tests.world import World

STRATEGIES = pytest.mark.parametrize("strategy", ["sequential", "levels", "adaptive"])
ASKS = "Ask ${input.topic}"


@pytest.fixture
def acme(acme: World) -> World:
    """With a model that has its price."""
    price = {"valid_from": date(2026, 1, 1), "input_usd": 1, "output_usd": 2}
    with acme.scope():
        TenantPrice.objects.create(provider="simulated", model="sim", **price)
    return acme


def replayed(world: World, run_id: UUID, from_step: str, **wishes: Any) -> UUID:
    with world.scope():
        return replay_run(Run.objects.get(id=run_id), from_step=from_step, **wishes).id


def refused(world: World, run_id: UUID, from_step: str, **wishes: Any) -> set[tuple[str, str]]:
    with pytest.raises(InputInvalidError) as caught:
        replayed(world, run_id, from_step, **wishes)
    return {(problem.loc, problem.code) for problem in caught.value.problems}


def reused(world: World, run_id: UUID) -> set[str]:
    with world.scope():
        rows = AgentRun.objects.filter(run_id=run_id, reused_from__isnull=False)
        return set(rows.values_list("step", flat=True))


def events(world: World, run_id: UUID, kind: str) -> list[dict[str, Any]]:
    with world.scope():
        rows = RunEvent.objects.filter(tenant=world.tenant, run_id=run_id, type=kind)
        return [event.data for event in rows.order_by("id")]


def chain(**fields: Any) -> dict[str, Any]:
    """Two models feed a third, whose answer is echoed."""
    return {
        "a": simulated(ASKS, needs=None),
        "b": simulated("Other"),
        "c": simulated("${steps.a.output} ${steps.b.output}", needs=["a", "b"]),
        "d": echo(value="${steps.c.output}", needs=["c"]),
        **fields,
    }


def ended(world: World, steps: dict[str, Any], **header: Any) -> UUID:
    run_id = start(world, steps, given={"topic": "tides", "tone": "dry"}, **header)
    drain(world, run_id)
    return run_id


@STRATEGIES
def test_outputs_before_the_step_are_reused_and_cost_nothing(acme: World, strategy: str) -> None:
    old = ended(acme, chain(), strategy=strategy)

    new = replayed(acme, old, "c")
    run = drain(acme, new)

    assert run.status == "completed"
    assert reused(acme, new) == {"a", "b"}
    before, after = step_of(acme, old, "a"), step_of(acme, new, "a")
    assert (after.status, after.output, after.prompt) == ("completed", before.output, before.prompt)
    assert (after.reused_from, after.attempt, after.llm_calls) == (before.id, 0, 0)
    assert (after.cost_nano, after.saved_nano) == (0, before.cost_nano)
    assert step_of(acme, new, "c").llm_calls == 1
    assert run.saved_nano == before.cost_nano + step_of(acme, old, "b").cost_nano > 0
    with acme.scope():
        lines = CostEntry.objects.filter(tenant=acme.tenant, run_id=new)
        assert [line.step for line in lines] == ["c"]
    assert run.cost_nano == step_of(acme, new, "c").cost_nano


def test_history_tells_what_was_reused(acme: World) -> None:
    old = ended(acme, chain())

    new = replayed(acme, old, "c")

    saved = run_of(acme, new).saved_nano
    (told,) = events(acme, new, "run.replayed")
    facts = {"replay_of": str(old), "from_step": "c", "reused": 2, "saved_nano": saved}
    assert told == facts
    assert [event["step"] for event in events(acme, new, "agent.reused")] == ["a", "b"]
    run = run_of(acme, new)
    assert (run.replay_of_id, run.replay_from, run.version_id) == (
        old,
        "c",
        run_of(acme, old).version_id,
    )


def test_replay_of_a_replay_saves_what_the_first_run_paid(acme: World) -> None:
    old = ended(acme, chain())
    once = replayed(acme, old, "c")
    drain(acme, once)

    twice = replayed(acme, once, "d")

    run = drain(acme, twice)
    assert reused(acme, twice) == {"a", "b", "c"}
    assert run.saved_nano == run_of(acme, once).saved_nano + run_of(acme, once).cost_nano
    assert run.cost_nano == 0


@STRATEGIES
def test_what_had_not_completed_runs_again_wherever_it_lies(acme: World, strategy: str) -> None:
    broken = {**echo(value="${input.none}"), "retry": {"attempts": 1}}
    steps = {
        "good": echo(value=1),
        "bad": broken,
        "after_bad": echo(value=2, needs=["bad"]),
        "last": echo(value=3, needs=["good"]),
    }
    old = ended(acme, steps, strategy=strategy, failure={"mode": "partial"})
    assert statuses(acme, old)["after_bad"] == "skipped"

    new = replayed(acme, old, "last", input={"none": "now there"})
    run = drain(acme, new)

    assert run.status == "completed"
    assert reused(acme, new) == {"good"}


@STRATEGIES
def test_other_input_runs_what_read_it_and_what_follows(acme: World, strategy: str) -> None:
    old = ended(acme, chain(), strategy=strategy)

    new = replayed(acme, old, "d", input={"topic": "winds", "tone": "dry"})
    drain(acme, new)

    assert reused(acme, new) == {"b"}
    assert step_of(acme, new, "a").prompt == "Ask winds"


def test_input_that_differs_where_nobody_reads_it_costs_nothing(acme: World) -> None:
    old = ended(acme, chain())

    new = replayed(acme, old, "d", input={"topic": "tides", "tone": "warm"})

    assert reused(acme, new) == {"a", "b", "c"}
    assert run_of(acme, new).input["tone"] == "warm"


def test_condition_on_the_input_is_asked_again(acme: World) -> None:
    steps = {
        "a": echo(value=1, needs=None) | {"when": 'input.tone == "dry"'},
        "b": echo(value="${steps.a.output ?? 0}", needs=["a"]),
        "c": echo(value=2),
    }
    old = ended(acme, steps)

    new = replayed(acme, old, "c", input={"topic": "tides", "tone": "warm"})
    drain(acme, new)

    assert reused(acme, new) == set()
    assert statuses(acme, new)["a"] == "skipped"


@STRATEGIES
def test_branch_that_was_not_taken_is_not_taken_again(acme: World, strategy: str) -> None:
    steps = {
        "route": echo(value="left"),
        "left": echo(value=1, needs=["route"]) | {"when": 'steps.route.output == "left"'},
        "right": echo(value=2, needs=["route"]) | {"when": 'steps.route.output == "right"'},
        "joined": echo(value="${steps.left.output ?? 0}", needs=["left", "right"]),
        "end": echo(value="${steps.joined.output ?? 0}", needs=["joined"]),
    }
    old = ended(acme, steps, strategy=strategy)

    new = replayed(acme, old, "end")
    run = drain(acme, new)

    assert (run.status, run.output) == ("completed", 1)
    assert reused(acme, new) == {"route", "left", "joined"}
    assert statuses(acme, new)["right"] == "skipped"


def test_map_is_reused_as_a_whole(acme: World) -> None:
    steps = {
        "each": simulated("Say ${item}") | {"map": {"over": "${input.list}"}},
        "end": echo(value="${steps.each.output}", needs=["each"]),
    }
    old = start(acme, steps, given={"list": ["x", "y"]})
    cost = drain(acme, old).cost_nano

    new = replayed(acme, old, "end")
    run = drain(acme, new)

    assert (run.status, run.output) == ("completed", run_of(acme, old).output)
    assert run.saved_nano == cost > 0
    assert set(statuses(acme, new)) == {"each", "end"}


def test_map_runs_again_over_the_edited_list(acme: World) -> None:
    steps = {
        "each": echo(value="${item}") | {"map": {"over": "${input.list}"}},
        "end": echo(value="${steps.each.output}", needs=["each"]),
    }
    old = start(acme, steps, given={"list": [1]})
    drain(acme, old)

    new = replayed(acme, old, "end", input={"list": [1, 2]})

    assert drain(acme, new).output == [1, 2]


def test_counters_of_the_new_run_leave_out_what_is_kept(acme: World) -> None:
    old = ended(acme, chain(), strategy="adaptive")

    new = replayed(acme, old, "b")

    with acme.scope():
        gates = {gate.number: gate.left for gate in Gate.objects.filter(run_id=new)}
    assert gates == {0: 1, 1: 1}
    assert drain(acme, new).status == "completed"


def test_failed_replay_is_retried_without_paying_again(acme: World) -> None:
    steps = {"a": simulated("x"), "b": simulated("y", needs=["a"], failures={"overloaded": 1.0})}
    steps["b"]["retry"] = {"attempts": 1}
    old = ended(acme, steps)
    new = replayed(acme, old, "b")
    assert drain(acme, new).status == "failed"

    act(acme, new, retry_run)
    drain(acme, new)

    assert reused(acme, new) == {"a"}
    assert (step_of(acme, new, "a").attempt, step_of(acme, new, "b").attempt) == (0, 2)


@pytest.mark.parametrize("is_begun", [False, True])
def test_run_that_has_not_ended_is_not_replayed(acme: World, is_begun: bool) -> None:
    run_id = start(acme, chain(), given={"topic": "x"})
    if is_begun:
        with acme.scope():
            Run.objects.filter(id=run_id).update(status="running")

    with pytest.raises(RunStateError, match="cannot be replayed"):
        replayed(acme, run_id, "c")


def test_deadline_begins_anew(acme: World) -> None:
    old = ended(acme, chain(), deadline="10m")

    run = run_of(acme, replayed(acme, old, "c"))

    assert run.deadline_seconds == 600
    assert run.deadline_at > run.created_at


def test_cap_of_the_run_holds_for_its_replay(acme: World) -> None:
    old = ended(acme, chain(), max_cost_usd="5")
    with acme.scope():
        Budget.objects.filter(scope="run", scope_id=old).update(limit_nano=2 * 10**9)

    run = run_of(acme, replayed(acme, old, "c"))

    assert run.max_cost_nano == 2 * 10**9
    with acme.scope():
        assert Budget.objects.get(scope="run", scope_id=run.id).limit_nano == 2 * 10**9


def test_preview_tells_what_a_replay_does(acme: World) -> None:
    old = ended(acme, chain())

    with acme.scope():
        told = plan_replay(Run.objects.select_related("version").get(id=old), from_step="c")

    assert (told.kept, told.again) == (("a", "b"), ("c", "d"))
    assert told.saved_nano == run_of(acme, replayed(acme, old, "c")).saved_nano


# Overrides


def test_overrides_reach_the_worker(acme: World) -> None:
    old = ended(acme, chain())
    wishes = {"c": {"prompt": "Other ${input.tone} ${steps.b.output}", "timeout": "7s"}}
    wishes["c"]["parameters"] = {"max_output_tokens": 9}  # type: ignore[assignment]

    new = replayed(acme, old, "c", overrides=wishes)
    drain(acme, new)

    step = step_of(acme, new, "c")
    assert step.status == "completed"
    assert (step.prompt or "").startswith("Other dry ")
    assert (step.reads, step.reads_input, step.timeout_seconds) == (["b"], True, 7)
    with acme.scope():
        request = step.calls.get().request
    assert request["max_output_tokens"] == 9
    assert request["parameters"]["seed"] == 7
    assert run_of(acme, new).overrides == wishes


def test_overrides_of_a_map_hold_for_its_items(acme: World) -> None:
    steps = {"each": echo(value=1), "say": simulated("Say ${item}", needs=["each"])}
    steps["say"]["map"] = {"over": "${input.list}"}
    old = start(acme, steps, given={"list": ["x"]})
    drain(acme, old)

    new = replayed(acme, old, "say", overrides={"say": {"prompt": "Whisper ${item}"}})
    drain(acme, new)

    assert step_of(acme, new, "say[0]").prompt == "Whisper x"


def test_every_problem_comes_at_once(acme: World) -> None:
    schema = {
        "type": "object",
        "required": ["topic"],
        "properties": {"topic": {"type": "string"}},
    }
    old = ended(acme, chain(), inputs=schema)
    overrides = {
        "a": {"prompt": "x"},
        "c": {
            "prompt": "${steps.d.output} ${input.topic}",
            "provider": "nobody",
            "parameters": {"temperature": 9},
            "timeout": "soon",
            "system": "x",
        },
        "d": {"prompt": "x", "model": "y"},
        "e": {},
        "b": 5,
    }

    found = refused(acme, old, "c", input={"topic": 3}, overrides=overrides)

    assert found >= {
        ("/input/topic", "type"),
        ("/overrides/c/system", "unknown_field"),
        ("/overrides/c/timeout", "duration"),
        ("/overrides/d/prompt", "not_applicable"),
        ("/overrides/d/model", "not_applicable"),
        ("/overrides/e", "unknown_step"),
        ("/overrides/b", "wrong_type"),
    }


@pytest.mark.parametrize(
    ("changes", "place", "code"),
    [
        ({"provider": "nobody"}, "/provider", "unknown_provider"),
        ({"provider": "openai"}, "/provider", "provider_not_configured"),
        ({"prompt": "${steps.d.output}"}, "/prompt", "not_upstream"),
        ({"prompt": "${steps.x.output}"}, "/prompt", "unknown_step"),
        ({"prompt": "${item}"}, "/prompt", "unknown_variable"),
        ({"prompt": 5}, "/prompt", "wrong_type"),
        ({"parameters": {"temperature": 9}}, "/parameters/temperature", "out_of_range"),
        ({"parameters": [1]}, "/parameters", "wrong_type"),
        ({"timeout": "0s"}, "/timeout", "duration"),
        ({"timeout": 30}, "/timeout", "duration"),
        ({"needs": []}, "/needs", "unknown_field"),
    ],
)
def test_override_is_checked_as_publishing_does(
    acme: World, changes: dict[str, Any], place: str, code: str
) -> None:
    old = ended(acme, chain())

    assert refused(acme, old, "c", overrides={"c": changes}) == {("/overrides/c" + place, code)}


def test_step_that_is_reused_takes_no_override(acme: World) -> None:
    old = ended(acme, chain())

    found = refused(acme, old, "c", overrides={"a": {"prompt": "x"}})

    assert found == {("/overrides/a", "not_run_again")}


def test_unknown_step_is_refused(acme: World) -> None:
    old = ended(acme, chain())

    assert refused(acme, old, "z") == {("/from_step", "unknown_step")}
    assert refused(acme, old, "c[0]") == {("/from_step", "unknown_step")}
