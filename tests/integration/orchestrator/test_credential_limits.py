"""Keys of tenants' own at one provider: each has its own limits, and is paused alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from typing import Any
from uuid import UUID

import pytest

from costs.models import TenantPrice
from orchestrator.execution import credentials as own
from orchestrator.execution import gateway
from orchestrator.limits.scopes import forget as forget_limits
from orchestrator.models import AgentRun, RateLimit
from orchestrator.services.sweep import sweep
from tenants.models import Credential
from tenants.services.credentials import change_credential, create_credential
from tests.e2e.stories import start
from tests.engine_driver import drain, open_limiter, step_of
from tests.integration.orchestrator.test_engine_budgets import make_due
from tests.model_servers import RawServer, http, raw_server
from tests.world import World

FIRST, SECOND, THEIRS = (f"sk-{name}-0123456789-abcd" for name in ("first", "second", "theirs"))
ASK = {"agent": {"type": "prompt", "provider": "compatible", "model": "m"}, "prompt": "Hi"}
RETRY_AFTER_SECONDS = 30


@contextmanager
def provider(*, exhausted: str = "") -> Iterator[RawServer]:
    """Answers with the key that it was asked with; one key has used up its quota."""

    def talk(_: RawServer, connection: Any, asked: bytes) -> None:
        (key,) = (k for k in (FIRST, SECOND, THEIRS) if f"bearer {k}".encode() in asked.lower())
        text = {"message": {"content": key}, "finish_reason": "stop"}
        body = {"choices": [text], "usage": {"prompt_tokens": 5, "completion_tokens": 1}}
        refusal = {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}
        wait = [f"Retry-After: {RETRY_AFTER_SECONDS}"]
        refused = http(refusal, status="429 Too Many Requests", headers=wait)
        connection.sendall(refused if key == exhausted else http(body))

    with raw_server(talk) as server:
        yield server


@pytest.fixture(autouse=True)
def _platform(acme: World, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.MUSTER_PRIVATE_NETWORKS = [ip_network("127.0.0.0/8")]
    open_limiter()
    monkeypatch.setattr(gateway, "SHORT_WAIT_SECONDS", 0.0)


def serving(world: World, server: RawServer, secret: str, *, limit: int = 0) -> Credential:
    """A credential that takes the place of the one before, with so many requests an hour."""
    with world.scope():
        for before in Credential.objects.filter(enabled=True):
            change_credential(before, enabled=False)
        row = create_credential(
            name=secret.split("-")[1],
            provider="compatible",
            secret=secret,
            base_url=f"{server.url}/v1",
        )
        TenantPrice.objects.get_or_create(
            provider="compatible", model="m", valid_from="2026-01-01", input_usd=1, output_usd=1
        )
        if limit:
            facts = {"unit": "requests", "period": "hour", "limit": limit}
            RateLimit.objects.create(scope="credential", credential=row, **facts)
    own._fresh.clear()
    forget_limits()
    return row


def asking(world: World, *names: str) -> UUID:
    return start(world, dict.fromkeys(names, ASK), strategy="sequential")


def resumed(world: World, run_id: UUID, name: str) -> AgentRun:
    """The step, once it has asked again."""
    make_due(step_of(world, run_id, name).id)
    sweep()
    drain(world, run_id)
    return step_of(world, run_id, name)


def test_limit_counts_the_calls_of_each_credential(acme: World, globex: World) -> None:
    with provider() as server:
        serving(acme, server, FIRST, limit=1)
        serving(globex, server, THEIRS)
        ours, theirs = asking(acme, "a", "b", "c"), asking(globex, "a", "b", "c")

        drain(acme, ours)

        b = step_of(acme, ours, "b")
        assert (b.status, b.waits_on) == ("waiting", "credential first requests per hour")
        assert drain(globex, theirs).status == "completed"

        serving(acme, server, SECOND, limit=1)
        assert resumed(acme, ours, "b").output == SECOND
        c = step_of(acme, ours, "c")
        assert (c.status, c.waits_on) == ("waiting", "credential second requests per hour")


def test_pause_that_a_provider_asks_for_is_that_of_one_credential(
    acme: World, globex: World
) -> None:
    with provider(exhausted=FIRST) as server:
        serving(acme, server, FIRST)
        serving(globex, server, THEIRS)
        ours, later = asking(acme, "a"), asking(acme, "a")

        drain(acme, ours)
        drain(acme, later)

        waiting = [step_of(acme, run_id, "a") for run_id in (ours, later)]
        assert [a.waits_on for a in waiting] == ["compatible m pause"] * 2
        assert len(server.requests) == 1
        assert drain(globex, asking(globex, "a")).status == "completed"

        serving(acme, server, SECOND)
        assert resumed(acme, ours, "a").output == SECOND
