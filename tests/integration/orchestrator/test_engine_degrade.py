"""Runs on the ladders of their workflows, against the real database and the simulated provider."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.core import mail

from agents_app.core.errors import ProviderErrorKind
from agents_app.core.model import Message, ModelRequest
from costs.models import Budget, CostAlert, TenantPrice
from orchestrator.core.builder import Workflow as Built
from orchestrator.core.errors import WorkflowInvalidError
from orchestrator.core.parsing import spec_to_mapping
from orchestrator.core.yaml_io import dump_text, load_text
from orchestrator.execution import engine_db
from orchestrator.execution.call_rows import end_call
from orchestrator.execution.errors import MustWaitError
from orchestrator.execution.gateway import GuardedClient
from orchestrator.execution.ladder import Ladder
from orchestrator.execution.leases import Lease
from orchestrator.execution.versions import ladder_of
from orchestrator.models import AgentRun, LlmCall, RunEvent, Workflow
from orchestrator.selectors.models_in_use import models_in_use
from orchestrator.services import agent_runs
from orchestrator.services.advance import advance
from orchestrator.services.alerts import deliver
from orchestrator.services.control import NotAskedError, pause_run, resume_run, retry_run
from orchestrator.services.drafts import draft_spec, save_draft
from orchestrator.services.runs import start_run
from orchestrator.services.sweep import sweep
from tenants.models import AuditEntry, User
from tenants.principals import Principal
from tests.e2e.stories import echo, simulated, start, statuses
from tests.engine_driver import drain, drain_all, open_limiter, queued, run_of, step_of
from tests.eventually import eventually
from tests.factories import make_tenant
from tests.integration.costs.test_budgets import set_limit
from tests.integration.orchestrator.test_engine import expire, take
from tests.integration.orchestrator.test_engine_budgets import make_due
from tests.integration.orchestrator.test_engine_calls import child_of, published
from tests.integration.orchestrator.test_engine_control import act
from tests.integration.orchestrator.test_engine_fallback import Moody, provider
from tests.integration.orchestrator.test_round_trips import round_trips
from tests.world import World

__all__ = ["provider"]

STRATEGIES = pytest.mark.parametrize("strategy", ["levels", "adaptive"])
USD = 10**9
# A call of the dear model takes a tenth of the cap, one of the cheap model a hundredth.
CAP = {"max_cost_usd": "0.01"}
DEAR, CHEAP = USD // 1_000, USD // 10_000
USE = {"use": {"provider": "simulated", "model": "cheap"}}
ASK = {"ask": {"roles": ["owner"]}}


@pytest.fixture(autouse=True)
def _priced(acme: World) -> None:
    open_limiter()
    price(acme)


def price(world: World) -> None:
    with world.scope():
        for model, usd in (("sim", 10), ("cheap", 1), ("spare", 10), ("last", 10)):
            TenantPrice.objects.create(
                provider="simulated",
                model=model,
                valid_from="2020-01-01",
                input_usd=Decimal(0),
                output_usd=Decimal(usd),
            )


def thought(needs: list[str] | None = None, **fields: Any) -> dict[str, Any]:
    return {**simulated("think", needs, output_tokens=100, max_output_tokens=100), **fields}


def chain(count: int, **fields: Any) -> dict[str, Any]:
    return {f"s{n}": thought([f"s{n - 1}"] if n else None, **fields) for n in range(count)}


def models(world: World) -> list[str]:
    with world.scope():
        return list(LlmCall.objects.order_by("created_at").values_list("model", flat=True))


def told(world: World, run_id: UUID) -> list[dict[str, Any]]:
    with world.scope():
        events = RunEvent.objects.filter(run_id=run_id, type="run.degraded").order_by("id")
        return list(events.values_list("data", flat=True))


def cap_of(run_id: UUID) -> Budget:
    return Budget.objects.get(scope="run", scope_id=run_id)


@STRATEGIES
def test_calls_go_to_the_cheaper_model_from_the_share_on(acme: World, strategy: str) -> None:
    rules = [{"at": 0.5, **USE}]
    run_id = start(acme, chain(8), strategy=strategy, degrade=rules, **CAP)

    run = drain(acme, run_id)

    assert models(acme) == ["sim"] * 5 + ["cheap"] * 3
    assert (run.status, run.cost_nano) == ("completed", 5 * DEAR + 3 * CHEAP)
    assert step_of(acme, run_id, "s7").model == "cheap"
    (only,) = told(acme, run_id)
    assert only == {
        "rung": 1,
        "does": "use",
        "at": 0.5,
        "share": 0.5,
        "used_nano": 5 * DEAR,
        "limit_nano": 10 * DEAR,
        "reason": "The run has used 50 % of its 0.01 USD; from 50 % on, calls go to simulated "
        "cheap",
        "use": {"provider": "simulated", "model": "cheap"},
    }


def test_last_rule_that_is_reached_decides(acme: World) -> None:
    back = {"use": {"provider": "simulated", "model": "spare"}}
    rules = [{"at": 0.1, **USE}, {"at": 0.12, **back}]

    drain(acme, start(acme, chain(5), degrade=rules, **CAP))

    assert models(acme) == ["sim", "cheap", "cheap", "spare", "spare"]


def test_holds_of_calls_under_way_count(acme: World) -> None:
    run_id = start(acme, {"a": thought(), "b": thought()}, degrade=[{"at": 0.1, **USE}], **CAP)
    advance(acme.tenant.id, run_id)
    first, second = (_client(acme, each) for each in queued(acme, run_id))
    first._turn = 1
    first._open(_request())

    second.complete(_request())

    assert models(acme) == ["sim", "cheap"]


def test_many_calls_at_once_come_down_together_and_it_is_told_once(acme: World) -> None:
    steps = {f"s{number}": thought() for number in range(24)}
    run_id = start(acme, steps, degrade=[{"at": 0.3, **USE}], max_cost_usd="0.03")
    advance(acme.tenant.id, run_id)
    due = [agent_run.id for agent_run in queued(acme, run_id)]

    with ThreadPoolExecutor(8) as workers:
        list(workers.map(lambda each: agent_runs.execute(acme.tenant.id, each, worker="w"), due))

    eventually(lambda: drained(acme, run_id) == "completed")
    # Those that look before another's hold may pass the share: the seven other threads.
    assert 9 <= models(acme).count("sim") <= 9 + 7
    assert models(acme).count("cheap") >= 24 - 16
    assert len(told(acme, run_id)) == 1


def drained(world: World, run_id: UUID) -> str:
    """How the run ends once those that had to wait for money have gone on."""
    advance(world.tenant.id, run_id)
    sweep()
    return drain(world, run_id).status


def test_agent_changes_its_model_in_the_middle_of_its_turns(acme: World) -> None:
    run_id = start(acme, {"a": thought()}, degrade=[{"at": 0.3, **USE}], **CAP)
    advance(acme.tenant.id, run_id)
    client = _client(acme, queued(acme, run_id)[0])

    for _ in range(5):
        client.complete(_request())

    assert models(acme) == ["sim"] * 3 + ["cheap"] * 2


def test_fallback_chain_follows_the_cheaper_model(acme: World, provider: Moody) -> None:
    provider.fails = {"cheap": ProviderErrorKind.SERVER}
    spare = [{"provider": "simulated", "model": "spare"}]
    steps = chain(2, fallback=spare, retry={"attempts": 1})
    run_id = start(acme, steps, degrade=[{"at": 0.1, **USE}], **CAP)

    assert drain(acme, run_id).status == "completed"
    assert models(acme) == ["sim", "cheap", "spare"]


def test_call_that_no_longer_fits_is_made_with_the_cheaper_model_at_once(acme: World) -> None:
    rules = [{"at": 0.99, **USE}]
    run_id = start(acme, chain(3), degrade=rules, max_cost_usd="0.0015")

    assert drain(acme, run_id).status == "completed"
    assert models(acme) == ["sim", "cheap", "cheap"]
    assert "the next call no longer fits" in told(acme, run_id)[0]["reason"]


def test_run_ends_at_its_cap_once_nothing_cheaper_is_left(acme: World) -> None:
    run_id = start(acme, chain(9), degrade=[{"at": 0.5, **USE}], max_cost_usd="0.0013")

    run = drain(acme, run_id)

    assert run.status == "budget_exceeded"
    assert models(acme) == ["sim", "cheap", "cheap", "cheap"]
    assert run.cost_nano == DEAR + 3 * CHEAP


def test_raised_cap_brings_the_model_back(acme: World) -> None:
    run_id = start(acme, chain(4), degrade=[{"at": 0.1, **USE}], **CAP)
    advance(acme.tenant.id, run_id)
    for number in range(2):
        agent_runs.execute(acme.tenant.id, step_of(acme, run_id, f"s{number}").id, worker="w1")
        advance(acme.tenant.id, run_id)
    with acme.scope():
        cap = cap_of(run_id)
    set_limit(acme, cap, USD)

    drain(acme, run_id)

    assert models(acme) == ["sim", "cheap", "sim", "sim"]


@STRATEGIES
def test_optional_map_goes_over_fewer_items(acme: World, strategy: str) -> None:
    each = {**echo(["a"], value="${item}"), "map": {"over": "${input.items}"}, "optional": True}
    steps = {"a": thought(), "each": each, "kept": {**each, "optional": False}}
    output = {"each": "${steps.each.output ?? 'none'}", "kept": "${steps.kept.output}"}
    run_id = start(
        acme,
        steps,
        given={"items": [1, 2, 3, 4, 5]},
        degrade=[{"at": 0.1, "map_items": 0.5}],
        strategy=strategy,
        output=output,
        **CAP,
    )

    run = drain(acme, run_id)

    assert run.output == {"each": [1, 2, 3], "kept": [1, 2, 3, 4, 5]}
    why = "Only the first 3 of 5 items: the run has used 10 % of its 0.01 USD, and from 10 % on"
    assert step_of(acme, run_id, "each").status_reason.startswith(why)
    assert step_of(acme, run_id, "kept").status_reason == ""
    (only,) = told(acme, run_id)
    assert (only["step"], only["items"], only["left_out"]) == ("each", 3, 2)
    with acme.scope():
        began = RunEvent.objects.get(type="agent.running", data__step="each", run_id=run_id)
    assert (began.data["items"], began.data["left_out"]) == (3, 2)


def test_map_that_was_cut_down_goes_on_with_its_items_when_it_is_retried(acme: World) -> None:
    calculator = {"agent": {"type": "tool", "tool": "calculator"}, "optional": True}
    over = {"map": {"over": "${input.items}"}, "arguments": {"expression": "1/${item}"}}
    run_id = start(
        acme,
        {"a": thought(), "each": {**calculator, **over, "needs": ["a"]}},
        given={"items": [1, 0, 1, 1]},
        degrade=[{"at": 0.1, "map_items": 0.5}],
        **CAP,
    )
    drain(acme, run_id)

    act(acme, run_id, retry_run)
    drain(acme, run_id)

    assert len([step for step in statuses(acme, run_id) if step.startswith("each[")]) == 2
    assert len(told(acme, run_id)) == 1


@STRATEGIES
def test_optional_steps_are_skipped_and_what_reads_them_goes_on(acme: World, strategy: str) -> None:
    steps = {
        "a": thought(),
        "extra": thought(["a"], optional=True),
        "behind": echo(["extra"], value="${steps.extra.output ?? 'nothing'}"),
        "end": echo(["a", "extra"], value="${steps.extra.output ?? 'nothing'}"),
    }
    rules = [{"at": 0.1, "skip": "optional"}]
    run_id = start(acme, steps, degrade=rules, strategy=strategy, **CAP)

    run = drain(acme, run_id)

    assert (run.status, run.output["end"]) == ("completed", "nothing")
    ended = {"a": "completed", "extra": "skipped", "behind": "skipped", "end": "completed"}
    assert statuses(acme, run_id) == ended
    reason = (
        "The run has used 10 % of its 0.01 USD; from 10 % on, its workflow skips optional steps"
    )
    assert step_of(acme, run_id, "extra").status_reason == reason
    assert [(each["does"], each["reason"]) for each in told(acme, run_id)] == [("skip", reason)]


@STRATEGIES
def test_optional_steps_run_below_the_share(acme: World, strategy: str) -> None:
    steps = {"a": thought(), "extra": thought(["a"], optional=True)}
    run_id = start(acme, steps, degrade=[{"at": 0.2, "skip": "optional"}], strategy=strategy, **CAP)

    drain(acme, run_id)

    assert set(statuses(acme, run_id).values()) == {"completed"}
    assert told(acme, run_id) == []


def test_optional_steps_of_a_loop_are_skipped_in_its_later_rounds(acme: World) -> None:
    body = {"think": thought(), "extra": {**echo(["think"], value=1), "optional": True}}
    loop = {"steps": body, "until": "loop.round == 2", "max_rounds": 2}
    rules = [{"at": 0.2, "skip": "optional"}]
    run_id = start(acme, {"again": {"loop": loop}}, degrade=rules, **CAP)

    assert drain(acme, run_id).status == "completed"
    found = statuses(acme, run_id)
    assert (found["again[0].extra"], found["again[1].extra"]) == ("completed", "skipped")


def test_steps_that_a_ladder_skipped_run_once_there_is_more_money(acme: World) -> None:
    dear = simulated("think", ["a", "extra"], output_tokens=2_000, max_output_tokens=2_000)
    steps = {"a": thought(), "extra": {**echo(["a"], value=1), "optional": True}, "end": dear}
    run_id = start(acme, steps, degrade=[{"at": 0.1, "skip": "optional"}], **CAP)
    assert drain(acme, run_id).status == "budget_exceeded"
    assert statuses(acme, run_id)["extra"] == "skipped"
    with acme.scope():
        cap = cap_of(run_id)
    set_limit(acme, cap, USD)

    act(acme, run_id, resume_run)

    assert drain(acme, run_id).status == "completed"
    assert statuses(acme, run_id)["extra"] == "completed"


def asking(
    world: World, role: str = "owner", *, expires: str | None = None, strategy: str = "levels"
) -> UUID:
    """A run that has asked whether it may go on, before its second step."""
    ask = {"roles": [role], **({"expires": expires} if expires else {})}
    rules = [{"at": 0.1, "ask": ask}]
    output = {"first": "${steps.s0.output}", "last": "${steps.s2.output ?? 'none'}"}
    run_id = start(world, chain(3), degrade=rules, strategy=strategy, output=output, **CAP)
    drain(world, run_id)
    return run_id


def test_run_asks_before_more_begins_and_goes_on_with_a_yes(acme: World) -> None:
    run_id = asking(acme)

    run = run_of(acme, run_id)
    assert (run.status, run.paused_for, run.answer_due_at) == ("paused", "ask", None)
    assert run.status_reason == (
        "It has used 10 % of its 0.01 USD (0.001 USD are spent or held), and from 10 % on, its "
        "workflow asks a person. An owner may resume it, or cancel it"
    )
    assert statuses(acme, run_id) == {"s0": "completed", "s1": "pending", "s2": "pending"}
    (only,) = told(acme, run_id)
    assert (only["does"], only["roles"], only["reason"]) == ("ask", ["owner"], run.status_reason)
    with acme.scope():
        audited = AuditEntry.objects.get(action="run.paused", object_id=str(run_id))
        alert = CostAlert.objects.get()
    assert audited.actor_kind == "system"
    assert (alert.kind, alert.run_id, alert.mail_due_at) == ("ask", run_id, None)
    assert (alert.spent_nano, alert.limit_nano) == (DEAR, 10 * DEAR)

    act(acme, run_id, lambda run: resume_run(run, by=_person(acme, "owner")))

    assert drain(acme, run_id).status == "completed"
    assert len(told(acme, run_id)) == 1


def test_people_are_told_of_the_question_by_mail(acme: World, settings: Any) -> None:
    User.objects.using("system").filter(pk=acme.owner.pk).update(email="ada@acme.example")
    settings.EMAIL_HOST = "mail.example"
    run_id = asking(acme)

    deliver()

    (sent,) = (m for m in mail.outbox if m.bcc == ["ada@acme.example"])
    assert sent.subject == "A run asks whether it may go on"
    assert f"0.001 USD of the 0.01 USD that run {run_id} may cost are spent or held" in sent.body
    page = acme.browser().get("/admin/costs/costalert/").content.decode()
    assert "run asks before it spends more" in page


def test_step_that_counting_alone_has_begun_waits_for_the_yes(acme: World) -> None:
    run_id = asking(acme, strategy="adaptive")

    run = run_of(acme, run_id)
    assert (run.status, run.paused_for) == ("paused", "ask")
    waiting = step_of(acme, run_id, "s1")
    assert (waiting.status, waiting.waits_on) == (
        "waiting",
        "a person's yes to what the run spends",
    )
    assert models(acme) == ["sim"]

    act(acme, run_id, lambda run: resume_run(run, by=_person(acme, "owner")))
    make_due(waiting.id)
    sweep()

    assert drain(acme, run_id).status == "completed"
    assert step_of(acme, run_id, "s1").spared == 1


def test_items_of_a_map_wait_for_the_yes_too(acme: World) -> None:
    each = thought(map={"over": "${input.items}", "parallel": 1}, retry={"attempts": 1})
    rules = [{"at": 0.2, **ASK}]
    run_id = start(acme, {"each": each}, given={"items": [1, 2, 3]}, degrade=rules, **CAP)

    assert drain(acme, run_id).status == "paused"
    assert models(acme) == ["sim", "sim"]
    act(acme, run_id, lambda run: resume_run(run, by=_person(acme, "owner")))
    make_due(step_of(acme, run_id, "each[2]").id)
    sweep()
    assert drain(acme, run_id).status == "completed"


@pytest.mark.parametrize("role", ["admin", "editor"])
def test_others_than_those_asked_cannot_resume_it(acme: World, role: str) -> None:
    run_id = asking(acme)

    with pytest.raises(NotAskedError, match="Only a member whose role is owner may resume"):
        act(acme, run_id, lambda run: resume_run(run, by=_person(acme, role)))
    with pytest.raises(NotAskedError):
        act(acme, run_id, resume_run)

    assert run_of(acme, run_id).status == "paused"


def test_operator_can_always_resume_it(acme: World) -> None:
    run_id = asking(acme)

    act(acme, run_id, lambda run: resume_run(run, by=_person(acme, "viewer", is_operator=True)))

    assert run_of(acme, run_id).status == "running"


def test_api_refuses_others_with_403_and_strangers_with_404(globex: World) -> None:
    world = make_tenant("editors", role="editor")
    price(world)
    run_id = asking(world, "admin")

    # A key counts as an admin.
    refused, unknown, answered = (
        client.post(f"/api/v1/runs/{run_id}/resume", content_type="application/json")
        for client in (world.browser(), globex.client(), world.client())
    )

    assert (refused.status_code, refused.json()["code"]) == (403, "not_asked")
    assert "Only a member whose role is admin may resume" in refused.json()["detail"]
    assert (unknown.status_code, answered.status_code) == (404, 202)
    assert run_of(world, run_id).status == "running"


def test_call_that_is_made_while_it_asks_waits_though_holds_have_come_back(acme: World) -> None:
    run_id = start(acme, {"a": thought(), "b": thought()}, degrade=[{"at": 0.4, **ASK}], **CAP)
    advance(acme.tenant.id, run_id)
    client, other = (_client(acme, each) for each in queued(acme, run_id))
    client._turn = 1
    call = client._open(replace(_request(), max_output_tokens=400))
    with pytest.raises(MustWaitError):
        other.complete(_request())
    end_call(acme.tenant.id, call.id, status="failed", charge=0)

    with pytest.raises(MustWaitError):
        client.complete(_request())

    assert run_of(acme, run_id).paused_for == "ask"


def test_plan_of_a_workflow_with_a_ladder_is_priced_and_its_small_cap_is_taken(acme: World) -> None:
    rules = [{"at": 0.1, **USE}]
    run_id = start(acme, chain(2), degrade=rules, **CAP)
    workflow = run_of(acme, run_id).workflow_id

    priced = acme.client().get(f"/api/v1/workflows/{workflow}/plan")
    with acme.scope():
        flow = Workflow.objects.get(id=workflow)
        small = start_run(workflow=flow, input={}, max_cost_nano=2 * CHEAP)

    assert priced.json()["price"]["worst_usd"] == "0.006"
    assert drain(acme, small.id).status == "completed"
    assert run_of(acme, small.id).cost_nano == 2 * CHEAP


def test_ladder_survives_every_form_of_a_workflow(acme: World) -> None:
    steps = {"a": {**thought(), "optional": True}}
    rules = [{"at": 0.5, "skip": "optional"}, {"at": 0.9, "ask": {"roles": ["admin"]}}]
    with Built("built", degrade=rules, **CAP) as built:
        built.step("a", **steps["a"])
    written = spec_to_mapping(built.spec)
    with acme.scope():
        kept = draft_spec(save_draft(project=acme.project, spec=written))

    assert load_text(dump_text(written).encode()) == written
    assert kept["degrade"] == rules
    assert kept == written


def test_page_offers_to_resume_to_those_alone_who_are_asked(acme: World) -> None:
    browser = acme.browser()
    of_owner, of_editor = asking(acme), asking(acme, "editor")
    pages = {run_id: f"/admin/orchestrator/run/{run_id}/" for run_id in (of_owner, of_editor)}

    shown = {
        run_id: browser.get(f"{page}change/").content.decode() for run_id, page in pages.items()
    }
    pressed = [browser.post(f"{page}resume/").status_code for page in pages.values()]

    assert all("It has used 10 % of its 0.01 USD" in text for text in shown.values())
    assert [f"{page}resume/" in shown[run_id] for run_id, page in pages.items()] == [True, False]
    assert pressed == [302, 403]
    assert [run_of(acme, run_id).status for run_id in pages] == ["running", "paused"]


def test_run_ends_with_what_it_has_when_nobody_answers(acme: World) -> None:
    run_id = asking(acme, expires="1h")
    sweep()
    assert run_of(acme, run_id).status == "paused"
    assert "An owner may resume it within 1h" in run_of(acme, run_id).status_reason
    let_time_pass(run_id)

    sweep()
    run = drain(acme, run_id)

    assert run.status == "budget_exceeded"
    assert (
        run.status_reason == "Nobody answered in time whether it may use more of what it may cost"
    )
    assert run.output["first"]
    assert run.output["last"] == "none"


def test_answer_that_comes_in_time_counts_though_the_sweeper_has_looked(acme: World) -> None:
    run_id = asking(acme, expires="1h")
    let_time_pass(run_id)
    act(acme, run_id, lambda run: resume_run(run, by=_person(acme, "owner")))

    gave_up = engine_db.one(
        "SELECT muster_give_up_asking(%s, %s, 'late') AS done", acme.tenant.id, run_id
    )

    assert gave_up == {"done": False}
    assert drain(acme, run_id).status == "completed"


def test_run_that_is_taken_up_without_a_yes_asks_again(acme: World) -> None:
    run_id = asking(acme, expires="1h")
    let_time_pass(run_id)
    sweep()
    drain(acme, run_id)

    act(acme, run_id, resume_run)

    assert drain(acme, run_id).status == "paused"
    assert len(told(acme, run_id)) == 2
    assert models(acme) == ["sim"]


def test_run_below_cannot_be_resumed_around_the_question_of_the_run_above(acme: World) -> None:
    published(acme, chain(3))
    steps = {
        "sub": {"workflow": "check"},
        "a": thought(),
        "b": thought(["a"]),
    }
    run_id = start(acme, steps, degrade=[{"at": 0.1, **ASK}], strategy="adaptive", **CAP)
    drain(acme, run_id)
    child = child_of(acme, run_id).id
    assert [run_of(acme, each).status for each in (run_id, child)] == ["paused", "paused"]

    with pytest.raises(NotAskedError):
        act(acme, child, lambda run: resume_run(run, by=_person(acme, "editor")))
    act(acme, run_id, lambda run: resume_run(run, by=_person(acme, "owner")))
    make_due(step_of(acme, run_id, "b").id)
    sweep()

    assert drain_all(acme, run_id).status == "completed"


def test_question_of_a_run_below_is_not_answered_by_resuming_the_one_above(acme: World) -> None:
    published(acme, chain(3), degrade=[{"at": 0.1, **ASK}], **CAP)
    run_id = start(acme, {"sub": {"workflow": "check"}})
    drain(acme, run_id)
    child = child_of(acme, run_id).id
    drain(acme, child)
    assert run_of(acme, child).paused_for == "ask"

    act(acme, run_id, pause_run)
    act(acme, run_id, resume_run)

    assert [run_of(acme, each).status for each in (run_id, child)] == ["running", "paused"]


def test_what_a_run_below_spends_counts_on_the_ladder_above(acme: World) -> None:
    published(acme, chain(3))
    steps = {"sub": {"workflow": "check"}, "end": thought(["sub"])}
    run_id = start(acme, steps, degrade=[{"at": 0.3, **USE}], **CAP)

    assert drain_all(acme, run_id).status == "completed"
    # The ladder is that of the workflow that a step stands in.
    assert models(acme) == ["sim"] * 3 + ["cheap"]


def test_answer_of_a_lost_worker_is_not_asked_for_again_by_another_model(acme: World) -> None:
    run_id = start(acme, chain(1), degrade=[{"at": 0.1, **USE}], **CAP)
    advance(acme.tenant.id, run_id)
    (agent_run,) = queued(acme, run_id)
    _client(acme, agent_run).complete(_request())
    expire(agent_run.id)
    sweep()

    assert drain(acme, run_id).status == "completed"
    assert models(acme) == ["sim"]
    assert told(acme, run_id) == []


def test_ladder_costs_calls_one_round_trip_and_no_others_any(acme: World) -> None:
    steps = {name: thought() for name in ("a", "b", "c")}
    plain, laddered = start(acme, steps), start(acme, steps, degrade=[{"at": 0.9, **USE}], **CAP)

    took = {run_id: _trips_of_a_step(acme, run_id) for run_id in (plain, laddered)}

    assert took == {plain: 4, laddered: 5}


def test_ladder_of_one_tenant_is_nothing_to_another(acme: World, globex: World) -> None:
    run_id = start(acme, chain(2), degrade=[{"at": 0.1, **USE}], **CAP)
    drain(acme, run_id)

    seen = engine_db.many("SELECT * FROM muster_cap_use(%s, %s)", globex.tenant.id, run_id)
    asks = "SELECT muster_ask_to_go_on(%s, %s, 2, 'x', '{}', '{}', NULL, false)"
    engine_db.one(asks, globex.tenant.id, run_id)

    assert seen == []
    assert run_of(acme, run_id).status == "completed"


def test_models_of_ladders_are_among_those_in_use(acme: World) -> None:
    start(acme, chain(1), degrade=[{"at": 0.1, **USE}, {"at": 0.2, **ASK}], **CAP)

    assert ("simulated", "cheap") in models_in_use(acme.tenant)


def test_ladder_that_makes_no_sense_is_not_published(acme: World) -> None:
    rules = [{"at": 0.5, "use": {"provider": "nobody", "model": "x"}}, {"at": 1, **ASK}]

    with pytest.raises(WorkflowInvalidError) as raised:
        start(acme, chain(1), degrade=[*rules, {"at": 0.2, "skip": "optional"}])

    assert {problem.loc for problem in raised.value.problems} == {
        "/max_cost_usd",
        "/degrade/0/use/provider",
        "/degrade/1/at",
        "/degrade/2/at",
        "/degrade/2/skip",
    }


def _request() -> ModelRequest:
    return ModelRequest(
        provider="simulated",
        model="sim",
        messages=(Message("user", "hello"),),
        parameters={"output_tokens": 100},
        max_output_tokens=100,
    )


def _client(world: World, agent_run: AgentRun) -> GuardedClient:
    taken = take(world, agent_run.id)
    lease = Lease(taken.agent_run_id, taken.attempt)
    rules = ladder_of(taken.tenant_id, taken.version_id)
    ladder = Ladder(rules, taken, give_up=lease.lost.is_set)
    return GuardedClient(taken, lease, role="executor", ladder=ladder)


def _trips_of_a_step(world: World, run_id: UUID) -> int:
    advance(world.tenant.id, run_id)
    first, second, _ = queued(world, run_id)
    agent_runs.execute(world.tenant.id, first.id, worker="w")  # fills the caches of a fresh worker
    before = round_trips()
    agent_runs.execute(world.tenant.id, second.id, worker="w")
    return round_trips() - before


def _person(world: World, role: str, *, is_operator: bool = False) -> Principal:
    return Principal(
        tenant_id=world.tenant.id,
        scopes=frozenset(),
        actor_kind="user",
        actor_id="1",
        label="Ada",
        role=role,
        is_operator=is_operator,
    )


def let_time_pass(run_id: UUID) -> None:
    engine_db.one(
        "UPDATE run SET answer_due_at = now() - interval '1 s' WHERE id = %s RETURNING id",
        run_id,
        alias="system",
    )
