"""The limiter while Redis is away, and after it has forgotten what is under way."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from costs.models import CostEntry
from orchestrator.core.limits import CallFacts, Unit
from orchestrator.embedded.ports import free_port
from orchestrator.limits.books import Ledger
from orchestrator.limits.limiter import EVICTING, UNREACHABLE, Limits
from orchestrator.limits.local import LocalLimiter
from orchestrator.limits.scopes import forget, limits_of
from orchestrator.limits.store import Store
from orchestrator.models import LlmCall, RateLimit, Run
from tenants.kernel.models import uuid7
from tests.browser.test_pages import RUNNING
from tests.run_rows import make_run, published
from tests.world import World

LEASE_US = 30_000_000


@pytest.fixture
def fresh() -> Iterator[Callable[..., Limits]]:
    """Limiters that find a Redis without a memory, and need not wait for anybody."""
    client = redis.Redis.from_url(settings.REDIS_URL)
    tag = f"{{restore-{uuid4().hex}}}"
    forget()

    def make(**options: Any) -> Limits:
        store = Store(client, token=uuid4().hex, lease_us=LEASE_US, tag=tag, grace_us=0)
        return Limits(store, books=Ledger(), limits_of=limits_of, **options)

    yield make
    found = list(client.scan_iter(f"{tag}*", count=10_000))
    if found:
        client.delete(*found)
    client.close()
    forget()


def limit(acme: World, **fields: Any) -> None:
    with acme.scope():
        RateLimit.objects.create(**{"scope": "tenant", "limit": 1, **fields})


def under_way(acme: World) -> Run:
    """A run some of whose steps have ended, with lines in the ledger, and one is at work."""
    return make_run(acme, published(acme), RUNNING, status="running")


def call(acme: World) -> CallFacts:
    call_id = uuid7()
    return CallFacts(
        call_id=call_id,
        waiter="me",
        tenant_id=acme.tenant.id,
        weight=1,
        project_id=acme.project.id,
        workflow_id=uuid7(),
        agent="",
        provider="simulated",
        model="m",
        credential_id=None,
        amounts={Unit.REQUESTS: 1},
        hold_nano=0,
        budgets=(),
    )


def test_places_of_open_calls_are_put_back(fresh: Callable[..., Limits], acme: World) -> None:
    limit(acme, unit="concurrent")
    run = under_way(acme)
    with acme.scope():
        open_call = LlmCall.objects.get(run=run, status="open")
    limits = fresh()

    assert limits.admit(call(acme)).gate == "tenant's own concurrent requests"
    limits.settle(open_call.id, {})
    assert limits.admit(call(acme)).granted


def test_day_begins_with_what_the_ledger_says(fresh: Callable[..., Limits], acme: World) -> None:
    under_way(acme)
    with acme.scope():
        paid = CostEntry.objects.filter(tenant=acme.tenant).count()
    day = {"period": "day", "counting": "calendar", "time_zone": "UTC"}
    limit(acme, unit="requests", **day, limit=paid + 1)
    limits = fresh()

    assert [limits.admit(call(acme)).granted for _ in range(2)] == [True, False]


def test_second_process_finds_what_the_first_has_opened(
    fresh: Callable[..., Limits], acme: World
) -> None:
    limit(acme, unit="requests", period="hour", limit=1)

    assert fresh().admit(call(acme)).granted
    assert not fresh().admit(call(acme)).granted


@pytest.fixture
def nowhere() -> Store:
    once = Retry(NoBackoff(), 0)
    client = redis.Redis(port=free_port(), socket_connect_timeout=1, retry=once)
    return Store(client, token="t", lease_us=LEASE_US)


def test_calls_wait_while_redis_is_away(nowhere: Store, acme: World) -> None:
    limits = Limits(nowhere, books=Ledger(), limits_of=limits_of)

    answer = limits.admit(call(acme))

    assert (answer.granted, answer.gate) == (False, UNREACHABLE)
    assert answer.wait_seconds > 0
    assert limits.state == UNREACHABLE
    limits.settle(uuid7(), {})
    limits.release(uuid7())
    limits.renew([uuid7()])
    limits.pause(call(acme), seconds=1)
    limits.observe(call(acme), {"x-ratelimit-remaining-requests": "1"})
    limits.flag_budget("b", left_nano=1)


def test_process_limits_for_itself_if_it_is_told_to(nowhere: Store, acme: World) -> None:
    forget()
    limit(acme, unit="concurrent")
    local = LocalLimiter(lease_us=LEASE_US)
    limits = Limits(nowhere, books=Ledger(), limits_of=limits_of, local=local)
    first = call(acme)

    assert limits.admit(first).granted
    assert not limits.admit(call(acme)).granted
    limits.settle(first.call_id, {})
    assert limits.admit(call(acme)).granted
    assert "for itself" in limits.state


def test_redis_that_may_evict_lets_nothing_through(
    fresh: Callable[..., Limits], acme: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "may_evict", lambda _: True)

    answer = fresh().admit(call(acme))

    assert (answer.granted, answer.gate) == (False, EVICTING)


def test_threads_that_ask_together_survive_a_server_that_forgot_the_scripts(
    fresh: Callable[..., Limits], acme: World
) -> None:
    limits = fresh()
    limit(acme, limit=20, unit="concurrent")
    calls = [call(acme) for _ in range(48)]
    assert limits.admit(calls[0]).granted

    redis.Redis.from_url(settings.REDIS_URL).script_flush()
    with ThreadPoolExecutor(16) as threads:
        admitted = list(threads.map(limits.admit, calls))

    assert sum(one.granted for one in admitted) == 20
    assert len({one.gate for one in admitted if not one.granted}) == 1
