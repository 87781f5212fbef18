"""Answers that steps take again: the same request only, of the same tenant, at no cost."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.test import Client
from django.urls import reverse

from costs.models import CostEntry
from orchestrator.execution import engine_db
from orchestrator.models import CachedAnswer, LlmCall, RunEvent
from orchestrator.services import retention
from orchestrator.services.advance import advance
from orchestrator.services.control import retry_run
from orchestrator.services.ledger_checks import check_ledger
from orchestrator.services.sweep import sweep
from tenants.kernel.clock import now
from tests.e2e.stories import simulated, start
from tests.engine_driver import drain, run_of, step_of
from tests.integration.orchestrator.test_engine_late_answers import EXPIRE
from tests.rest import call, get
from tests.talk import take
from tests.world import World


def asks(prompt: str = "What is it?", *, cache: Any = True, **parameters: Any) -> dict[str, Any]:
    return {**simulated(prompt, **parameters), "cache": cache}


def ran(world: World, **step: Any) -> UUID:
    run_id = start(world, {"a": {**asks(), **step}})
    assert drain(world, run_id).status == "completed"
    return run_id


def calls_of(world: World, run_id: UUID) -> list[LlmCall]:
    with world.scope():
        return list(LlmCall.objects.filter(run_id=run_id))


def is_cached(world: World, run_id: UUID) -> bool:
    (only,) = calls_of(world, run_id)
    return only.is_cached


def test_same_request_is_answered_from_the_cache(acme: World) -> None:
    first, second = ran(acme), ran(acme)

    assert (is_cached(acme, first), is_cached(acme, second)) == (False, True)
    assert run_of(acme, first).output == run_of(acme, second).output
    step = step_of(acme, second, "a")
    assert (step.llm_calls, step.input_tokens, step.output_tokens, step.cost_nano) == (1, 0, 0, 0)
    with acme.scope():
        assert CostEntry.objects.filter(run_id=first).exists()
        assert not CostEntry.objects.filter(run_id=second).exists()
        assert RunEvent.objects.filter(run_id=second, type="llm_call.cached").count() == 1


def test_books_agree_although_hits_have_no_line(acme: World) -> None:
    ran(acme)
    hit = ran(acme)

    (kept,) = calls_of(acme, hit)
    assert str(kept.id) not in {str(row["object_id"]) for row in check_ledger().differences}


@pytest.mark.parametrize(
    "other",
    [
        asks("What else?"),
        asks(seed=8),
        {**asks(), "system": "Be brief."},
        {**asks(), "model": "sim-2"},
        {**asks(), "output_schema": {"type": "string"}},
        asks(cache=False),
    ],
    ids=["prompt", "parameters", "system", "model", "schema", "no cache"],
)
def test_any_other_request_is_asked(acme: World, other: dict[str, Any]) -> None:
    ran(acme)

    assert not is_cached(acme, ran(acme, **other))


def test_stranger_is_never_answered_from_it(acme: World, globex: World) -> None:
    ran(acme)

    assert not is_cached(globex, ran(globex))


def test_answer_is_taken_for_as_long_as_the_asking_step_says(acme: World) -> None:
    ran(acme, cache={"ttl": "2h"})
    with acme.scope():
        CachedAnswer.objects.update(answered_at=now() - timedelta(hours=1))

    assert is_cached(acme, ran(acme, cache={"ttl": "90m"}))
    assert not is_cached(acme, ran(acme, cache={"ttl": "30m"}))


def test_expired_answer_is_not_taken_and_then_forgotten(acme: World) -> None:
    ran(acme)
    with acme.scope():
        CachedAnswer.objects.update(
            answered_at=now() - timedelta(days=2), expires_at=now() - timedelta(seconds=1)
        )

    retention.forget()

    with acme.scope():
        assert not CachedAnswer.objects.exists()
    assert not is_cached(acme, ran(acme))


def test_hit_passes_no_limiter_and_needs_no_money(acme: World) -> None:
    price = {"max_cost_usd": "0.000000001"}
    ran(acme)

    run_id = ran(acme, **price)

    (hit,) = calls_of(acme, run_id)
    assert (hit.is_cached, hit.hold_nano, hit.budget_periods) == (True, 0, [])


def test_cut_answer_is_not_kept(acme: World) -> None:
    cut = asks(text="A long text that is cut.", max_output_tokens=2)

    assert not is_cached(acme, ran(acme, **cut))
    assert not is_cached(acme, ran(acme, **cut))


def test_what_is_tried_again_is_asked_anew(acme: World) -> None:
    ran(acme, **asks(fail_attempts=["ok"]))
    asked = asks(output="no number")
    failing = {
        **asked,
        "agent": {**asked["agent"], "repairs": 0},
        "output_schema": {"type": "integer"},
        "retry": {"attempts": 1},
    }
    run_id = start(acme, {"a": failing})
    assert drain(acme, run_id).status == "failed"

    with acme.scope():
        retry_run(run_of(acme, run_id))
    drain(acme, run_id)

    assert [each.is_cached for each in calls_of(acme, run_id)] == [False, False]


def test_whose_worker_was_lost_has_failed_in_nothing(acme: World) -> None:
    ran(acme)
    run_id = start(acme, {"a": asks()})
    advance(acme.tenant.id, run_id)
    take(acme, run_id, "a")
    engine_db.one(EXPIRE, step_of(acme, run_id, "a").id, alias="system")
    sweep()

    assert drain(acme, run_id).status == "completed"

    assert step_of(acme, run_id, "a").attempt == 2
    assert is_cached(acme, run_id)


def test_turns_of_a_conversation_are_taken_one_by_one(acme: World) -> None:
    script = [
        {"tool_calls": [{"name": "calculator", "arguments": {"expression": "6 * 7"}}]},
        {"text": "It is 42."},
    ]
    agent = {"type": "react", "provider": "simulated", "model": "sim", "tools": ["calculator"]}
    step = {"agent": agent, "prompt": "?", "parameters": {"script": script}, "cache": True}
    runs = [start(acme, {"a": step}) for _ in range(2)]

    outputs = [drain(acme, run_id).output for run_id in runs]

    assert outputs == ["It is 42.", "It is 42."]
    assert [each.is_cached for each in calls_of(acme, runs[1])] == [True, True]


def test_tenant_switches_it_off(acme: World, globex: World) -> None:
    ran(acme)
    assert get(acme.client(), "call-settings").json()["caches_answers"] is True

    answer = call(acme.client(), "PATCH", "call-settings", {"caches_answers": False})

    assert answer.json()["caches_answers"] is False
    assert not is_cached(acme, ran(acme))
    assert get(globex.client(), "call-settings").json()["caches_answers"] is True
    reader = acme.client("workflows:read")
    assert call(reader, "PATCH", "call-settings", {"caches_answers": True}).status_code == 403


def test_run_page_says_so(acme: World) -> None:
    ran(acme)
    run_id = ran(acme)

    browser: Client = acme.browser()
    page = browser.get(reverse("admin:orchestrator_run_change", args=[run_id]))

    assert "from the cache" in page.content.decode()


def test_settings_are_one_row_in_the_admin(acme: World) -> None:
    browser: Client = acme.browser()
    address = reverse("admin:orchestrator_callsettings_add")

    assert browser.post(address, {"caches_answers": "", "keeps": "full"}).status_code == 302
    assert browser.get(address).status_code == 403
    assert not get(acme.client(), "call-settings").json()["caches_answers"]
