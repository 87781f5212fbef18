"""What is left of what was said, once a run has ended."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connections
from django.urls import reverse

from costs.models import CostEntry
from orchestrator.execution import engine_db
from orchestrator.models import (
    AgentMessage,
    AgentRun,
    Approval,
    CallEffect,
    ContextValue,
    LlmCall,
    Run,
    Todo,
    ToolCall,
)
from orchestrator.services import call_texts, control, retention
from orchestrator.services.ledger_checks import check_ledger
from tenants.kernel.clock import now
from tenants.models import AuditEntry
from tests.e2e.stories import start
from tests.engine_driver import drain, run_of
from tests.rest import call, get
from tests.world import World

HOLD = "SELECT id FROM muster_hold_ended(%s::uuid[]) AS id"
MAIL = "jane@example.org"
SCRIPT = [
    {"tool_calls": [{"name": "echo", "arguments": {"value": MAIL}}]},
    {"text": f"It is {MAIL}."},
]


def said(world: World, **header: Any) -> UUID:
    """A run that ended a while ago, in which an address was said everywhere."""
    agent = {"type": "react", "provider": "simulated", "model": "sim", "tools": ["echo"]}
    step = {"agent": agent, "prompt": f"Find {MAIL}", "parameters": {"script": SCRIPT}}
    run_id = start(world, {"a": step}, **header)
    assert drain(world, run_id).finished_at
    ended(world, run_id, ago=timedelta(hours=1))
    return run_id


def told(world: World) -> UUID:
    """The same, told to others."""
    calls = [
        {"name": "send_message", "arguments": {"content": {"mail": MAIL}, "type": "found"}},
        {"name": "context_set", "arguments": {"key": "found", "value": [MAIL]}},
        {"name": "todo_create", "arguments": {"text": f"Write to {MAIL}"}},
    ]
    tools = [each["name"] for each in calls]
    agent = {"type": "react", "provider": "simulated", "model": "sim", "tools": tools}
    script = [{"tool_calls": calls}, {"text": "Done."}]
    run_id = start(world, {"a": {"agent": agent, "prompt": "?", "parameters": {"script": script}}})
    assert drain(world, run_id).status == "completed"
    ended(world, run_id, ago=timedelta(hours=1))
    return run_id


def exchanged(world: World, run_id: UUID) -> str:
    kept = [(AgentMessage, "content"), (ContextValue, "value"), (Todo, "text")]
    with world.scope():
        found = [
            list(kind.objects.filter(run_id=run_id).values_list(name, flat=True))
            for kind, name in [*kept, (CallEffect, "effect")]
        ]
    return str(found)


def ended(world: World, run_id: UUID, *, ago: timedelta) -> None:
    with world.scope():
        Run.objects.filter(id=run_id).update(finished_at=now() - ago)


def keep(world: World, **settings: Any) -> None:
    assert call(world.client(), "PATCH", "call-settings", settings).status_code == 200


def texts(world: World, run_id: UUID) -> str:
    with world.scope():
        calls = [(each.request, each.reply) for each in LlmCall.objects.filter(run_id=run_id)]
        used = [
            (each.arguments, each.output, each.error)
            for each in ToolCall.objects.filter(run_id=run_id)
        ]
        prompts = list(AgentRun.objects.filter(run_id=run_id).values_list("prompt", flat=True))
    return str([calls, used, prompts])


def figures(world: World, run_id: UUID) -> list[Any]:
    names = ("status", "input_tokens", "output_tokens", "cost_nano", "model", "turn")
    with world.scope():
        return [
            *LlmCall.objects.filter(run_id=run_id).order_by("turn").values_list(*names),
            *CostEntry.objects.filter(run_id=run_id).values_list("amount_nano", "input_tokens"),
        ]


def test_without_settings_all_is_kept(acme: World) -> None:
    run_id = said(acme)

    retention.forget()

    assert texts(acme, run_id).count(MAIL) >= 4


@pytest.mark.parametrize(("keeps", "mark"), [("redacted", "[e-mail]"), ("none", "")])
def test_texts_go_and_figures_stay(acme: World, keeps: str, mark: str) -> None:
    run_id = said(acme)
    before = figures(acme, run_id)
    keep(acme, keeps=keeps)

    retention.forget()

    assert MAIL not in texts(acme, run_id)
    assert mark in texts(acme, run_id)
    assert figures(acme, run_id) == before
    ours = str(run_id)
    assert not [row for row in check_ledger().differences if str(row["run_id"]) == ours]
    page = acme.browser().get(reverse("admin:orchestrator_run_change", args=[run_id]))
    assert page.status_code == 200


def test_stranger_s_texts_are_not_touched(acme: World, globex: World) -> None:
    ours, theirs = said(acme), said(globex)
    keep(acme, keeps="none")

    retention.forget()

    assert MAIL not in texts(acme, ours)
    assert MAIL in texts(globex, theirs)


def test_after_so_many_days_figures_alone_are_left(acme: World) -> None:
    young, old = said(acme), said(acme)
    ended(acme, old, ago=timedelta(days=8))
    keep(acme, keep_days=7)

    retention.forget()

    assert MAIL in texts(acme, young)
    assert MAIL not in texts(acme, old)


def put_into(run_id: UUID, status: str) -> None:
    with connections["owner"].cursor() as cursor:
        cursor.execute("ALTER TABLE run DISABLE TRIGGER transition")
        cursor.execute("UPDATE run SET status = %s WHERE id = %s", [status, run_id])
        cursor.execute("ALTER TABLE run ENABLE TRIGGER transition")


@pytest.mark.parametrize("status", ["running", "budget_exceeded"])
def test_runs_that_go_on_or_may_be_resumed_keep_all(acme: World, status: str) -> None:
    run_id = said(acme)
    put_into(run_id, status)
    keep(acme, keeps="none", keep_days=1)

    retention.forget()

    assert MAIL in texts(acme, run_id)


def test_run_that_ends_later_is_treated_later(acme: World) -> None:
    keep(acme, keeps="none")
    first = said(acme)
    retention.forget()
    second = said(acme)
    ended(acme, second, ago=timedelta(minutes=2))

    retention.forget()

    assert MAIL not in texts(acme, first) + texts(acme, second)


def test_runs_without_money_are_in_nobody_s_way(
    acme: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_texts, "MOST_RUNS", 1)
    broke, later = said(acme), said(acme)
    ended(acme, broke, ago=timedelta(hours=2))
    put_into(broke, "budget_exceeded")
    keep(acme, keeps="none")

    retention.forget()

    assert MAIL in texts(acme, broke)
    assert MAIL not in texts(acme, later)


def test_however_many_runs_have_ended_all_are_treated(
    acme: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_texts, "MOST_RUNS", 1)
    runs = [said(acme) for _ in range(3)]
    keep(acme, keeps="redacted", keep_days=1)

    retention.forget()

    assert not any(MAIL in texts(acme, run_id) for run_id in runs)


def test_tenant_whose_texts_cannot_be_treated_holds_up_no_other(
    acme: World, globex: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = [(acme, said(acme)), (globex, said(globex))]
    first = min(both, key=lambda each: each[0].tenant.id)
    for world, _ in both:
        keep(world, keeps="redacted")
    struck = call_texts.redacted
    broken: list[bool] = []

    def breaks_once(value: Any) -> Any:
        if not broken:
            broken.append(True)
            raise RecursionError
        return struck(value)

    monkeypatch.setattr(call_texts, "redacted", breaks_once)
    retention.forget()

    assert [MAIL in texts(*each) for each in both] == [each is first for each in both]

    retention.forget()

    assert not any(MAIL in texts(*each) for each in both)


def test_run_that_is_taken_up_again_meanwhile_is_left_alone(acme: World) -> None:
    ours, theirs = said(acme), said(acme)
    put_into(ours, "running")

    found = engine_db.many(HOLD, [ours, theirs], alias="system")

    assert [row["id"] for row in found] == [theirs]


@pytest.mark.parametrize("keeps", ["redacted", "none"])
def test_what_agents_told_each_other_goes_too(acme: World, keeps: str) -> None:
    run_id = told(acme)
    assert exchanged(acme, run_id).count(MAIL) >= 4
    keep(acme, keeps=keeps)

    retention.forget()

    assert MAIL not in exchanged(acme, run_id) + texts(acme, run_id)
    with acme.scope():
        assert AgentMessage.objects.filter(run_id=run_id, type="found").exists()
        assert ContextValue.objects.filter(run_id=run_id, key="found").exists()


@pytest.mark.parametrize("keeps", ["redacted", "none"])
def test_what_people_were_shown_goes_too(acme: World, keeps: str) -> None:
    asks = {"approval": {"question": f"Write to {MAIL}?", "show": {"to": MAIL}}}
    run_id = start(acme, {"a": asks})
    drain(acme, run_id)
    with acme.scope():
        control.cancel_run(run_of(acme, run_id))
    assert drain(acme, run_id).status == "cancelled"
    ended(acme, run_id, ago=timedelta(hours=1))
    keep(acme, keeps=keeps)

    retention.forget()

    with acme.scope():
        asked = Approval.objects.get(run_id=run_id)
        assert MAIL not in str([asked.question, asked.show])
        assert not AuditEntry.objects.filter(object_type="approval", after__icontains="mail")


def test_stricter_settings_hold_for_what_was_treated_before(acme: World) -> None:
    run_id = said(acme)
    keep(acme, keeps="redacted")
    retention.forget()

    keep(acme, keeps="none")
    retention.forget()

    assert "[e-mail]" not in texts(acme, run_id)


@pytest.mark.parametrize(
    "bad", [{"keeps": "some"}, {"keep_days": 0}, {"keep_days": 10_000}, {"treated_until": None}]
)
def test_bad_settings_are_refused(acme: World, bad: dict[str, Any]) -> None:
    assert call(acme.client(), "PATCH", "call-settings", bad).status_code == 400
    assert get(acme.client(), "call-settings").json()["keeps"] == "full"
