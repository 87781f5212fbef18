"""The limiter as the gateway uses it: limits from rows, decisions in Redis."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
import redis
from django.conf import settings

from orchestrator.core.limits import CallFacts, Unit
from orchestrator.limits import Limits
from orchestrator.limits import limits as limits_of_process
from orchestrator.limits.limiter import RESTORING
from orchestrator.limits.scopes import forget
from orchestrator.models import PlatformRateLimit, RateLimit
from tenants.kernel.models import uuid7
from tenants.models import Credential
from tests.eventually import eventually
from tests.world import World

PROVIDER = "simulated"


@pytest.fixture
def limits(call: Any) -> Iterator[Limits]:
    found = limits_of_process()
    # Whoever comes first after the start of Redis finds out what is under way.
    eventually(lambda: found.admit(call()).gate != RESTORING)
    forget()
    yield found
    forget()


@pytest.fixture
def call(acme: World) -> Callable[..., CallFacts]:
    def make(**facts: Any) -> CallFacts:
        call_id = uuid7()
        return CallFacts(
            **{
                "call_id": call_id,
                "waiter": str(call_id),
                "tenant_id": acme.tenant.id,
                "weight": 1,
                "project_id": acme.project.id,
                "workflow_id": UUID(int=1),
                "agent": "writer",
                "provider": PROVIDER,
                "model": f"of-{acme.tenant.slug}",
                "credential_id": None,
                "amounts": {Unit.REQUESTS: 1, Unit.TOTAL: 100},
                "hold_nano": 0,
                "budgets": (),
                **facts,
            }
        )

    return make


def limit(acme: World, **fields: Any) -> RateLimit:
    facts = {"scope": "tenant", "unit": "requests", "period": "minute", "limit": 2}
    with acme.scope():
        return RateLimit.objects.create(**{**facts, **fields})


def test_call_without_limits_goes_at_once(limits: Limits, call: Any) -> None:
    assert limits.admit(call()).granted


def test_limit_of_the_tenant_refuses_and_says_so(limits: Limits, acme: World, call: Any) -> None:
    limit(acme)

    answers = [limits.admit(call()) for _ in range(3)]

    assert [answer.granted for answer in answers] == [True, True, False]
    assert answers[2].gate == "tenant's own requests per minute"
    assert 29 < answers[2].wait_seconds <= 30


def test_strangers_limit_is_none_of_ours(limits: Limits, globex: World, call: Any) -> None:
    limit(globex, limit=1)

    assert all(limits.admit(call()).granted for _ in range(3))


def test_place_is_free_again_once_the_call_is_settled(
    limits: Limits, acme: World, call: Any
) -> None:
    limit(acme, unit="concurrent", period="", limit=1)
    first, second = call(), call()

    assert limits.admit(first).granted
    assert limits.admit(second).gate == "tenant's own concurrent requests"
    limits.settle(first.call_id, {Unit.REQUESTS: 1})
    assert not limits.admit(call()).granted  # it came after the second
    assert limits.admit(second).granted


def test_places_are_forgotten_some_day_also_after_none_was_held(
    limits: Limits, acme: World, call: Any
) -> None:
    limit(acme, unit="concurrent", period="", limit=1)
    first, second = call(), call()
    limits.admit(first)
    limits.settle(first.call_id, {Unit.REQUESTS: 1})

    assert limits.admit(second).granted

    with redis.Redis.from_url(settings.REDIS_URL) as client:
        [places] = client.keys(f"*:s:t:{acme.tenant.id}:p:*")
        assert client.pttl(places) > 0


def test_calendar_day_counts_what_the_ledger_knows(limits: Limits, acme: World, call: Any) -> None:
    limit(acme, period="day", counting="calendar", time_zone="Europe/Berlin", limit=1)

    assert limits.admit(call()).granted
    denied = limits.admit(call())

    assert denied.gate == "tenant's own requests per calendar day (Europe/Berlin)"
    assert 0 < denied.wait_seconds <= 25 * 3600


def test_more_than_a_limit_ever_grants_is_never_let_through(
    limits: Limits, acme: World, call: Any
) -> None:
    limit(acme, unit="total_tokens", limit=99)

    answer = limits.admit(call())

    assert (answer.granted, answer.never) == (False, True)
    assert answer.gate == "tenant's own total tokens per minute"


def test_exhausted_budget_is_refused_before_the_database_is_asked(
    limits: Limits, call: Any
) -> None:
    key = str(uuid7())
    limits.flag_budget(key, left_nano=10)

    assert limits.admit(call(budgets=(key,), hold_nano=10)).granted
    refused = limits.admit(call(budgets=(key,), hold_nano=11))
    assert (refused.granted, refused.budget) == (False, key)
    limits.clear_budget(key)
    assert limits.admit(call(budgets=(key,), hold_nano=11)).granted


def test_pause_of_the_provider_holds_up_everybody(limits: Limits, call: Any) -> None:
    limits.pause(call(), seconds=30)

    answer = limits.admit(call())

    assert answer.gate == f"{PROVIDER} {call().model} pause"
    assert 29 < answer.wait_seconds <= 30


USED_UP = {
    "x-ratelimit-limit-requests": "60",
    "x-ratelimit-remaining-requests": "0",
    "x-ratelimit-reset-requests": "1m0s",
}


def test_quota_that_is_used_up_is_awaited_whole_where_no_limit_tells_how_it_comes_back(
    limits: Limits, call: Any
) -> None:
    limits.observe(call(), USED_UP)

    answer = limits.admit(call())

    assert answer.gate == f"{PROVIDER} {call().model} pause"
    assert 59 < answer.wait_seconds <= 60


def test_quota_that_is_used_up_comes_back_as_its_limit_says(limits: Limits, call: Any) -> None:
    facts = {"provider": PROVIDER, "model": call().model, "unit": "requests", "period": "hour"}
    rows = PlatformRateLimit.objects.using("system")
    row = rows.create(**facts, scope="provider", limit=3600, capacity=60)
    try:
        assert limits.admit(call()).granted
        limits.observe(call(), USED_UP)
        answer = limits.admit(call())
    finally:
        row.delete(using="system")

    assert answer.gate.endswith("requests per hour")
    assert 0 < answer.wait_seconds <= 1


def test_operators_limit_for_each_tenant_gives_way_to_one_for_this_tenant(
    limits: Limits, acme: World, call: Any
) -> None:
    facts = {"scope": "tenant", "provider": PROVIDER, "unit": "requests", "period": "hour"}
    rows = PlatformRateLimit.objects.using("system")
    general = rows.create(**facts, limit=1)
    own = rows.create(**facts, limit=3, for_tenant=acme.tenant)
    try:
        answers = [limits.admit(call()) for _ in range(4)]
    finally:
        general.delete(using="system")
        own.delete(using="system")

    assert [answer.granted for answer in answers] == [True, True, True, False]
    assert answers[3].gate == f"tenant on {PROVIDER} requests per hour"


def test_limit_of_a_credential_counts_the_calls_with_it(
    limits: Limits, acme: World, call: Any
) -> None:
    with acme.scope():
        key = Credential.objects.create(name="own", provider=PROVIDER, secret=b"x")
    limit(acme, scope="credential", credential=key, limit=1)

    with_it = [limits.admit(call(credential_id=key.id)) for _ in range(2)]

    assert [answer.granted for answer in with_it] == [True, False]
    assert with_it[1].gate == "credential own requests per minute"
    assert limits.admit(call()).granted
