"""What is left of what was said, once a run has ended."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connections
from django.urls import reverse

from costs.models import CostEntry
from orchestrator.models import AgentRun, LlmCall, Run, ToolCall
from orchestrator.services import retention
from orchestrator.services.ledger_checks import check_ledger
from tenants.kernel.clock import now
from tests.e2e.stories import start
from tests.engine_driver import drain
from tests.rest import call, get
from tests.world import World

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


@pytest.mark.parametrize("status", ["running", "budget_exceeded"])
def test_runs_that_go_on_or_may_be_resumed_keep_all(acme: World, status: str) -> None:
    run_id = said(acme)
    with connections["owner"].cursor() as cursor:
        cursor.execute("ALTER TABLE run DISABLE TRIGGER transition")
        cursor.execute("UPDATE run SET status = %s WHERE id = %s", [status, run_id])
        cursor.execute("ALTER TABLE run ENABLE TRIGGER transition")
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
