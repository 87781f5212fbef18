"""Steps that name a capability: who may take them, who does, and that it stays so."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any
from uuid import UUID

import pytest
from django.urls import reverse

from agents_app.models import Agent
from agents_app.services.agents import change_agent, create_agent
from costs.models import CostEntry, TenantPrice
from orchestrator.core.choosing import candidates
from orchestrator.execution import engine_db
from orchestrator.models import AgentChoice, Run, RunEvent
from orchestrator.selectors import agent_loads
from orchestrator.services import agent_runs, choosing
from orchestrator.services.advance import advance
from orchestrator.services.bundle_export import export_bundle
from orchestrator.services.bundles import install_bundle
from orchestrator.services.control import retry_run
from orchestrator.services.drafts import draft_spec, save_draft
from orchestrator.services.errors import InputInvalidError
from orchestrator.services.replay import replay_run
from orchestrator.services.sweep import sweep
from orchestrator.services.workflows import publish_spec
from tests.e2e.stories import echo, start
from tests.engine_driver import drain, drain_all, queued, run_of, step_of
from tests.html_forms import form_data
from tests.rest import get, made, post
from tests.world import World

ASK = {"agent": {"capability": "translation"}, "arguments": {"value": "hallo"}}


@pytest.fixture(autouse=True)
def looks_at_once() -> Iterator[None]:
    choosing.forget_agents()
    agent_loads.forget_loads()
    yield
    choosing.forget_agents()
    agent_loads.forget_loads()


def translators(world: World, *slugs: str, **more: Any) -> None:
    fields = {"type": "tool", "settings": {"tool": "echo"}, "capabilities": ["translation"], **more}
    with world.scope():
        for slug in slugs:
            create_agent(slug=slug, **fields)


def problems(world: World, steps: dict[str, Any], **header: Any) -> list[tuple[str, str, str]]:
    spec = {"muster": 1, "name": "story", "steps": steps, **header}
    found = made(post(world.client(), "workflows/validate", spec))["errors"]
    return [(each["loc"], each["code"], each["message"]) for each in found]


def chosen(world: World, run_id: UUID) -> list[str]:
    with world.scope():
        found = AgentChoice.objects.filter(run_id=run_id).order_by("id")
        return list(found.values_list("agent", flat=True))


def test_agent_that_has_the_capability_takes_the_step(acme: World) -> None:
    translators(acme, "ada")

    run = drain(acme, start(acme, {"a": ASK}, output="${steps.a.output}"))

    step = step_of(acme, run.id, "a")
    assert (run.status, run.output, step.agent) == ("completed", "hallo", "ada")
    with acme.scope():
        told = RunEvent.objects.get(run=run, type="agent.chosen")
    assert told.data == {
        "step": "a",
        "attempt": 1,
        "capability": "translation",
        "agent": "ada",
        "busy": {"ada": 0},
    }


def test_work_goes_to_who_was_chosen_least_then_by_name(acme: World) -> None:
    translators(acme, "cem", "ada", "bea")
    mapped = {**ASK, "map": {"over": "${input.items}"}}

    run = drain_all(acme, start(acme, {"a": mapped}, given={"items": [1, 2, 3, 4]}))

    assert run.status == "completed"
    assert chosen(acme, run.id) == ["ada", "bea", "cem", "ada"]


def test_who_has_more_to_do_is_spared(acme: World) -> None:
    translators(acme, "ada", "bea")
    busy = start(acme, {"a": {"agent": "ada", "arguments": {"value": 1}}})
    advance(acme.tenant.id, busy)
    agent_loads.forget_loads()

    run = drain(acme, start(acme, {"a": ASK}))

    assert chosen(acme, run.id) == ["bea"]
    with acme.scope():
        told = RunEvent.objects.get(run=run, type="agent.chosen")
    assert told.data["busy"] == {"ada": 1, "bea": 0}
    drain(acme, busy)


def test_agent_that_came_after_publishing_may_take_it_and_one_that_went_may_not(
    acme: World,
) -> None:
    translators(acme, "bea")
    run_id = start(acme, {"a": ASK})
    translators(acme, "ada")
    with acme.scope():
        Agent.objects.get(slug="bea").delete()

    assert drain(acme, run_id).status == "completed"
    assert chosen(acme, run_id) == ["ada"]


def test_step_that_nobody_can_take_any_more_fails_in_words(acme: World) -> None:
    translators(acme, "ada")
    run_id = start(acme, {"a": ASK})
    with acme.scope():
        Agent.objects.get(slug="ada").delete()

    assert drain(acme, run_id).status == "failed"
    error = step_of(acme, run_id, "a").error
    assert error["code"] == "no_capable_agent"
    assert "'translation'" in error["message"]


def test_later_attempt_keeps_to_the_agent_as_it_was(acme: World) -> None:
    translators(acme, "ada", "bea")
    run_id = start(acme, {"a": ASK})
    advance(acme.tenant.id, run_id)
    (queued_step,) = queued(acme, run_id)
    died_after_choosing(acme, queued_step.id)
    translators(acme, "aaa")
    with acme.scope():
        change_agent(Agent.objects.get(slug="ada"), settings={"tool": "text_stats"})

    run = drain(acme, run_id)

    step = step_of(acme, run_id, "a")
    assert (run.status, step.attempt, step.agent, step.output) == ("completed", 2, "ada", "hallo")
    assert chosen(acme, run_id) == ["ada"]
    with acme.scope():
        assert RunEvent.objects.filter(run=run, type="agent.chosen").count() == 1


class PowerCutError(BaseException):
    pass


def died_after_choosing(world: World, agent_run_id: UUID) -> None:
    def cut(point: str) -> None:
        if point == "after_choice":
            raise PowerCutError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choosing, "crash_here", cut)
        with pytest.raises(PowerCutError):
            agent_runs.execute(world.tenant.id, agent_run_id, worker="w0")
    engine_db.many(
        "UPDATE agent_run SET lease_until = clock_timestamp() - interval '1 s' WHERE id = %s "
        "RETURNING id",
        agent_run_id,
        alias="system",
    )
    sweep()


def test_custom_names_of_another_tenant_are_no_candidates(acme: World, globex: World) -> None:
    translators(globex, "ada")

    ((loc, code, message),) = problems(acme, {"a": ASK})

    assert (loc, code) == ("/steps/a/agent/capability", "unknown_capability")
    assert message == "No agent has the capability `translation`; no agent has any"


def test_unknown_capability_tells_which_there_are(acme: World) -> None:
    translators(acme, "ada", capabilities=["translation", "law"])

    ((_, _, message),) = problems(acme, {"a": {**ASK, "agent": {"capability": "translatio"}}})

    assert message == (
        "No agent has the capability `translatio`; did you mean `translation`?; "
        "there are: law, translation"
    )


def test_what_no_candidate_can_do_with_is_told_at_its_place(acme: World) -> None:
    translators(acme, "ada", "bea")

    found = problems(acme, {"a": {**ASK, "arguments": {"value": "${steps.b.output}"}}})

    assert [(loc, code) for loc, code, _ in found] == [("/steps/a/arguments/value", "unknown_step")]


def test_agents_that_do_not_fit_are_passed_over(acme: World) -> None:
    translators(acme, "ada", type="prompt", settings={}, prompt="Translate.")
    translators(acme, "bea", settings={"tool": "text_stats"})
    assert "`ada`" in problems(acme, {"a": ASK})[0][2]
    translators(acme, "cem")

    run = drain(acme, start(acme, {"a": ASK}))

    assert (run.status, chosen(acme, run.id)) == ("completed", ["cem"])


@pytest.mark.parametrize(
    ("agent", "code"),
    [
        ({"capability": "translation", "type": "prompt"}, "unknown_field"),
        ({"capability": ""}, "bad_format"),
        ({"capability": ["translation"]}, "wrong_type"),
        ({"capability": None}, "wrong_type"),
    ],
)
def test_only_a_capability_may_stand_there(acme: World, agent: dict[str, Any], code: str) -> None:
    assert [each[1] for each in problems(acme, {"a": {**ASK, "agent": agent}})] == [code]


def test_agents_prompt_may_read_what_its_step_needs(acme: World) -> None:
    prompt = {"type": "prompt", "settings": {}, "provider": "simulated", "model": "sim"}
    translators(acme, "ada", prompt="Say ${steps.first.output} and ${input.n}.", **prompt)
    steps = {
        "first": echo(value="one"),
        "a": {"agent": {"capability": "translation"}, "needs": ["first"]},
    }

    run = drain(acme, start(acme, steps, given={"n": 2}))

    assert run.status == "completed"
    assert "one" in step_of(acme, run.id, "a").prompt
    assert run_of(acme, run.id).cost_nano == 0


def test_agent_that_reads_more_than_its_step_needs_is_not_able_to_take_it(acme: World) -> None:
    translators(acme, "ada", **MODEL, model="sim", prompt="Say ${steps.first.output}.")
    steps = {
        "first": echo(value="one"),
        "second": {**echo(value="two"), "needs": ["first"]},
        "a": {"agent": {"capability": "translation"}, "needs": ["second"]},
    }

    ((loc, code, message),) = problems(acme, steps)
    assert (loc, code) == ("/steps/a/agent/capability", "no_capable_agent")
    assert "`steps.first.output`" in message

    steps["a"]["needs"] = ["second", "first"]
    assert problems(acme, steps) == []
    # Who says itself what is read brings it along.
    steps["a"] |= {"needs": ["second"], "prompt": "Say ${steps.first.output} again."}
    assert problems(acme, steps) == []


def test_loops_choose_in_each_round(acme: World) -> None:
    translators(acme, "ada", "bea")
    loop = {"steps": {"say": ASK}, "until": "loop.round == 2", "max_rounds": 2}

    run = drain_all(acme, start(acme, {"again": {"loop": loop}}))

    assert (run.status, chosen(acme, run.id)) == ("completed", ["ada", "bea"])


MODEL = {"type": "prompt", "settings": {}, "provider": "simulated"}


@pytest.fixture
def paid(acme: World) -> World:
    """Acme, with a cheap model and a dear one."""
    for model, usd in (("cheap", 1), ("dear", 9)):
        price = {"valid_from": date(2026, 1, 1), "input_usd": usd, "output_usd": usd}
        with acme.scope():
            TenantPrice.objects.create(provider="simulated", model=model, **price)
    return acme


def test_dearest_candidate_is_the_worst_case_and_the_cheapest_the_least(paid: World) -> None:
    def price(name: str, agent: Any) -> Any:
        steps = {"a": {"agent": agent, "prompt": "hi", "retry": {"attempts": 1}}}
        workflow = made(post(paid.client(), "workflows", {"name": name, "steps": steps}))
        return made(get(paid.client(), f"workflows/{workflow['id']}/plan"))["price"]

    translators(paid, "ada", **MODEL, model="cheap")
    translators(paid, "bea", **MODEL, model="dear")

    able = price("able", {"capability": "translation"})
    cheap, dear = price("cheap", "ada"), price("dear", "bea")

    assert able["worst_usd"] == dear["worst_usd"]
    assert able["cheapest_usd"] == cheap["cheapest_usd"]
    assert cheap["worst_usd"] < dear["worst_usd"]


def test_ledger_and_run_name_the_agent_that_was_chosen(paid: World) -> None:
    translators(paid, "bea", **MODEL, model="dear", role="reviewer")

    run = drain(paid, start(paid, {"a": {"agent": ASK["agent"], "prompt": "hi"}}))

    step = step_of(paid, run.id, "a")
    with paid.scope():
        entry = CostEntry.objects.get(run_id=run.id)
    assert (entry.agent, entry.role, entry.model) == ("bea", "reviewer", "dear")
    assert (step.agent, step.role, step.provider, step.model) == (
        *("bea", "reviewer"),
        *("simulated", "dear"),
    )


def test_step_that_a_person_has_retried_keeps_its_agent(acme: World) -> None:
    translators(acme, "ada", settings={"tool": "calculator"})
    steps = {"a": {**ASK, "arguments": {"expression": "1 / 0"}}}
    run_id = start(acme, steps)
    assert drain(acme, run_id).status == "failed"
    translators(acme, "aaa", settings={"tool": "calculator"})

    with acme.scope():
        retry_run(Run.objects.get(id=run_id))
    drain(acme, run_id)

    assert (step_of(acme, run_id, "a").agent, chosen(acme, run_id)) == ("ada", ["ada"])


def test_replay_chooses_anew_and_takes_overrides(acme: World) -> None:
    translators(acme, "ada", type="prompt", settings={}, provider="simulated", model="sim")
    first = drain(acme, start(acme, {"a": {"agent": ASK["agent"], "prompt": "one"}}))

    with acme.scope():
        wishes = {"a": {"prompt": "two", "parameters": {"text": "2"}}}
        again = replay_run(Run.objects.get(id=first.id), from_step="a", overrides=wishes)
    run = drain(acme, again.id)

    assert (run.status, run.output, step_of(acme, run.id, "a").prompt) == ("completed", "2", "two")
    assert chosen(acme, run.id) == ["ada"]
    wrong = {"a": {"parameters": {"temperature": 7}}}
    with acme.scope(), pytest.raises(InputInvalidError) as caught:
        replay_run(Run.objects.get(id=first.id), from_step="a", overrides=wrong)
    assert [each.loc for each in caught.value.problems] == ["/overrides/a/parameters/temperature"]


def test_many_at_once_are_dealt_out_evenly(acme: World) -> None:
    translators(acme, "ada", "bea", "cem")
    steps = {f"s{number}": ASK for number in range(12)}
    run_id = start(acme, steps, strategy="adaptive")
    advance(acme.tenant.id, run_id)
    due = queued(acme, run_id)

    with ThreadPoolExecutor(12) as threads:
        for each in due:
            threads.submit(agent_runs.execute, acme.tenant.id, each.id, worker="w1")

    assert Counter(chosen(acme, run_id)) == {"ada": 4, "bea": 4, "cem": 4}
    assert drain(acme, run_id).status == "completed"


def test_who_can_take_a_step_is_found_out_once_for_all_its_items(
    acme: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    translators(acme, "ada", "bea")
    mapped = {**ASK, "map": {"over": "${input.items}"}}
    loop = {"steps": {"a": ASK}, "until": "loop.round == 3", "max_rounds": 3}
    steps = {"a": mapped, "b": {"loop": loop}, "c": ASK}
    run_id = start(acme, steps, given={"items": [1, 2, 3, 4]})
    looked: list[str] = []

    def seen(step: Any, choice: Any, catalog: Any) -> Any:
        looked.append(step.name)
        return candidates(step, choice, catalog)

    monkeypatch.setattr(choosing, "candidates", seen)

    assert drain_all(acme, run_id).status == "completed"
    assert (len(chosen(acme, run_id)), sorted(looked)) == (8, ["a", "a", "c"])


def test_step_that_nobody_can_take_looks_again_for_its_tenant_alone(
    acme: World, globex: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for world in (acme, globex):
        translators(world, "ada")
        drain(world, start(world, {"a": ASK}))
    run_id = start(acme, {"a": ASK})
    with acme.scope():
        Agent.objects.get(slug="ada").delete()
    choosing._known.forget(acme.tenant.id)

    assert drain(acme, run_id).status == "failed"

    monkeypatch.setattr(choosing._known, "_load", pytest.fail)
    assert "ada" in choosing._known.of(globex.tenant.id).catalog.agents


def test_agent_that_brings_a_heavy_tool_later_is_passed_over(acme: World) -> None:
    translators(acme, "bea", settings={"tool": "echo", "arguments": {"value": 1}})
    light = {"a": {"agent": ASK["agent"]}}
    diff = {"tool": "text_diff", "arguments": {"before": "a", "after": "b"}}
    before = start(acme, light)
    translators(acme, "ada", settings=diff)

    assert drain(acme, before).status == "completed"
    assert chosen(acme, before) == ["bea"]

    after = start(acme, light, name="heavy")
    assert drain(acme, after).status == "completed"
    assert chosen(acme, after) == ["ada"]


def test_agents_that_have_a_capability_go_along_in_a_bundle(acme: World, globex: World) -> None:
    translators(acme, "ada", "bea")
    with acme.scope():
        version = publish_spec(project=acme.project, spec={"name": "s", "steps": {"a": ASK}})
        taken = export_bundle(version.workflow, version)

    with globex.scope():
        install_bundle(taken, project=globex.project, and_publish=True)

    assert [*taken["agents"]] == ["ada", "bea"]


def test_capability_is_chosen_in_the_form_of_a_step(acme: World) -> None:
    translators(acme, "ada")
    with acme.scope():
        spec = {"name": "s", "steps": {"a": ASK, "b": {**ASK, "agent": "ada"}}}
        workflow = save_draft(project=acme.project, spec=spec)
    url = reverse("admin:orchestrator_workflow_change", args=[workflow.pk])
    data = form_data(acme.browser().get(url).content.decode(), "workflow_form")
    sources = [f"steps-{number}-agent_source" for number in (0, 1)]
    assert [data[name] for name in sources] == [["*translation"], ["ada"]]

    saved = acme.browser().post(url, {**data, **dict.fromkeys(sources, "*translation")})

    with acme.scope():
        steps = draft_spec(workflow)["steps"]
    assert saved.status_code == 302
    assert [each["agent"] for each in steps.values()] == [{"capability": "translation"}] * 2


def test_registry_lists_who_can_do_what_and_how_busy_they_are(acme: World, globex: World) -> None:
    translators(acme, "ada", capabilities=["law", "translation"])
    translators(acme, "bea")
    run_id = start(acme, {"a": ASK, "b": {**ASK, "agent": "bea"}})
    advance(acme.tenant.id, run_id)
    died_after_choosing(acme, step_of(acme, run_id, "a").id)
    agent_loads.forget_loads()

    found = made(get(acme.client(), "capabilities?capability=translation"))["results"]

    ada, bea = ({"name": slug, "type": "tool", "saved": True, "busy": 1} for slug in ("ada", "bea"))
    assert found == [{"name": "translation", "agents": [ada, bea]}]
    assert made(get(globex.client(), "capabilities"))["results"] == []
    assert drain(acme, run_id).status == "completed"
