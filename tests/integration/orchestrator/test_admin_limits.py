"""The pages of limits: usage, editing in place, and whose they are."""

from dataclasses import replace
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from orchestrator.core.limits import Admission, CallFacts
from orchestrator.limits import limits
from orchestrator.limits.scopes import forget
from orchestrator.models import AgentRun, PlatformRateLimit, RateLimit
from tenants.kernel.clock import now
from tenants.kernel.models import uuid7
from tests.engine_driver import open_limiter, step_of
from tests.eventually import eventually
from tests.factories import make_tenant
from tests.integration.orchestrator.test_waiting import hold
from tests.limiters import call
from tests.run_rows import make_run, published
from tests.world import World

PAGE = "/admin/orchestrator/ratelimit/"
OPERATORS = "/admin/orchestrator/platformratelimit/"


def limit(acme: World, **fields: Any) -> RateLimit:
    facts = {"scope": "tenant", "unit": "requests", "period": "minute", "limit": 60}
    with acme.scope():
        return RateLimit.objects.create(**{**facts, **fields})


def save(client: Client, row: Any, limit: str, capacity: str = "", page: str = PAGE) -> Any:
    sent = {"row": row.pk, f"{row.pk}-limit": limit, f"{row.pk}-capacity": capacity}
    return client.post(page, sent)


def go_to(world: World, client: Client) -> None:
    client.post(reverse("admin:switch_tenant"), {"tenant": world.tenant.id})


def test_page_shows_own_limits_and_no_strangers(acme: World, globex: World) -> None:
    own, others = limit(acme), limit(globex)

    shown = acme.browser().get(PAGE).content.decode()

    assert "tenant&#x27;s own requests per minute" in shown
    assert str(own.pk) in shown
    assert str(others.pk) not in shown


def test_limit_is_changed_in_place(acme: World) -> None:
    row = limit(acme)

    answer = save(acme.browser(), row, "90", "10")

    assert answer.status_code == 302
    with acme.scope():
        row.refresh_from_db()
    assert (row.limit, row.capacity) == (90, 10)


def test_nonsense_is_said_at_its_field(acme: World) -> None:
    row = limit(acme)

    answer = save(acme.browser(), row, "0")

    assert answer.status_code == 400
    assert "At least 1." in answer.content.decode()


def test_stranger_changes_nothing(acme: World, globex: World) -> None:
    row = limit(acme)

    assert save(globex.browser(), row, "1").status_code == 404


def test_viewer_looks_but_has_no_form(live_db: None) -> None:
    viewer = make_tenant("viewer", role="viewer")
    row = limit(viewer)

    assert f"{row.pk}-limit" not in viewer.browser().get(PAGE).content.decode()
    assert save(viewer.browser(), row, "1").status_code == 403


def test_new_limit_is_added_with_the_form(acme: World) -> None:
    client = acme.browser()
    facts = {"scope": "tenant", "unit": "concurrent", "period": "", "limit": "3"}

    wrong = client.post(f"{PAGE}add/", {**facts, "period": "minute", "counting": "bucket"})
    right = client.post(f"{PAGE}add/", {**facts, "counting": "bucket"})

    assert "Concurrent calls have no period." in wrong.content.decode()
    assert right.status_code == 302
    with acme.scope():
        assert RateLimit.objects.get().limit == 3


def test_operators_limits_are_operators_business(acme: World, globex: World) -> None:
    assert acme.browser().get(OPERATORS).status_code == 404

    client = acme.operator()
    # Whichever tenant the operator has gone to.
    go_to(globex, client)
    facts = {"unit": "requests", "period": "minute", "limit": "7", "counting": "bucket"}
    added = client.post(
        f"{OPERATORS}add/", {**facts, "scope": "tenant", "for_tenant": acme.tenant.pk}
    )
    assert added.status_code == 302
    row = PlatformRateLimit.objects.using("system").get(for_tenant=acme.tenant)
    assert acme.tenant.name in client.get(OPERATORS).content.decode()
    assert save(client, row, "8", page=OPERATORS).status_code == 302
    go_to(acme, client)
    assert "Set by the operator" in client.get(PAGE).content.decode()
    go_to(globex, client)
    assert client.post(f"{OPERATORS}{row.pk}/delete/", {"post": "yes"}).status_code == 302


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"limit": "-1"}, "At least 1."),
        ({"limit": "9" * 30}, "less than or equal to"),
        ({"capacity": "0"}, "At least 1."),
        ({"scope": "provider"}, "Say which provider."),
        ({"scope": "everything", "for_tenant": "acme"}, "Only a limit of scope tenant"),
        ({"period": ""}, "period"),
    ],
)
def test_operators_nonsense_is_said_too(acme: World, wrong: dict[str, str], said: str) -> None:
    facts = {"scope": "tenant", "unit": "requests", "period": "minute", "limit": "7"}
    given = {**facts, "counting": "bucket", **wrong}
    given["for_tenant"] = str(acme.tenant.pk) if "for_tenant" in wrong else ""

    answer = acme.operator().post(f"{OPERATORS}add/", given)

    assert answer.status_code == 200
    assert said in answer.content.decode()


def test_saved_limit_says_so_where_the_reader_looks(acme: World) -> None:
    row, other = limit(acme), limit(acme, unit="concurrent", period="")
    client = acme.browser()

    shown = client.get(save(client, row, "90").url.partition("#")[0]).content.decode()

    mine = shown.partition(f'id="limit-{row.pk}"')[2]
    assert "Saved; it counts within seconds." in mine.partition("</li>")[0]
    assert shown.count("Saved; it counts") == 1
    assert str(other.pk) in shown


def test_who_waits_stands_at_the_limit_that_holds_it(acme: World) -> None:
    held, other = limit(acme, limit=1), limit(acme, unit="concurrent", period="", limit=50)
    run = make_run(acme, published(acme), "pending", status="running")
    forget()
    open_limiter()
    verdict = wait_at(acme, step_of(acme, run.pk, "facts"))

    shown = acme.browser().get(PAGE).content.decode()

    assert verdict.gate == "tenant's own requests per minute"
    assert "?step=facts" in live(shown, held)
    assert "?step=facts" not in live(shown, other)


def test_who_has_ended_waits_no_more(acme: World) -> None:
    held = limit(acme, limit=1)
    run = make_run(acme, published(acme), "pending", status="running")
    forget()
    open_limiter()
    wait_at(acme, step_of(acme, run.pk, "facts"))
    with acme.scope():
        run.agent_runs.filter(step="facts").update(
            status="failed", waiting_for="", waits_on="", finished_at=now(), due_at=None
        )

    shown = acme.browser().get(PAGE).content.decode()

    assert "?step=facts" not in live(shown, held)


def test_paused_model_without_a_limit_is_told(acme: World) -> None:
    run = make_run(acme, published(acme), "pending", status="running")
    hold(acme, run, "facts", reason="rate_limited", gate="openai gpt-4o pause")

    shown = acme.browser().get(PAGE).content.decode()

    assert "<strong>openai gpt-4o</strong>: its provider wants no calls" in shown
    assert "1 agent waits" in shown


def live(page: str, row: RateLimit) -> str:
    return page.partition(f'id="live-{row.pk}"')[2].partition("</li>")[0]


def wait_at(acme: World, agent_run: AgentRun) -> Admission:
    """Have an agent run stand in the line of the tenant's limits, told of what holds it."""
    facts = call(acme, waiter=str(agent_run.pk))
    verdict = eventually(lambda: denied(facts))
    with acme.scope():
        AgentRun.objects.filter(pk=agent_run.pk).update(
            status="waiting", waiting_for="rate_limited", waits_on=verdict.gate
        )
    return verdict


def denied(facts: CallFacts) -> Admission | None:
    verdict = limits().admit(replace(facts, call_id=uuid7()))
    return None if verdict.granted else verdict
