"""What prices and providers may say that makes no sense, and what a call then costs."""

from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from typing import Any

import pytest

from costs.models import CostEntry, TenantPrice
from orchestrator.core.errors import WorkflowInvalidError
from orchestrator.execution import prices
from orchestrator.models import AgentRun
from tenants.services.credentials import create_credential
from tests.e2e.stories import simulated, start
from tests.engine_driver import drain, step_of
from tests.integration.costs.test_budgets import budget, state
from tests.model_servers import RawServer, http, raw_server
from tests.world import World

ASK = {"agent": {"type": "prompt", "provider": "compatible", "model": "m"}, "prompt": "Hi"}


@contextmanager
def provider(world: World, settings: Any, **answer: Any) -> Iterator[RawServer]:
    """What the tenant's own key leads to: a server that says `Hello.`, and this beside it."""

    def talk(_: RawServer, connection: Any, __: bytes) -> None:
        text = {"message": {"content": "Hello."}, "finish_reason": "stop"}
        connection.sendall(http({"choices": [text], **answer}))

    settings.MUSTER_PRIVATE_NETWORKS = [ip_network("127.0.0.0/8")]
    with raw_server(talk) as server:
        address = f"{server.url}/v1"
        with world.scope():
            create_credential(
                name="main", provider="compatible", secret="sk-0123456789", base_url=address
            )
        yield server


def price(world: World, provider: str, usd: int) -> None:
    with world.scope():
        TenantPrice.objects.create(
            provider=provider, model="*", valid_from="2026-01-01", input_usd=usd, output_usd=usd
        )


def asked(world: World, step: dict[str, Any]) -> AgentRun:
    run_id = start(world, {"a": {**step, "retry": {"attempts": 1}}})
    drain(world, run_id)
    return step_of(world, run_id, "a")


def lines(world: World) -> list[CostEntry]:
    with world.scope():
        return list(CostEntry.objects.filter(tenant=world.tenant))


def test_model_without_a_price_is_not_published(acme: World, settings: Any) -> None:
    with (
        provider(acme, settings),
        pytest.raises(WorkflowInvalidError, match="No price is known"),
    ):
        asked(acme, ASK)


def test_model_whose_price_is_gone_is_not_called(acme: World, settings: Any) -> None:
    price(acme, "compatible", 1)
    with provider(acme, settings) as server:
        run_id = start(acme, {"a": ASK})
        with acme.scope():
            TenantPrice.objects.all().delete()
        prices._rows.forget()

        drain(acme, run_id)

    a = step_of(acme, run_id, "a")
    assert (a.status, a.error["code"]) == ("failed", "unknown_price")
    assert "add a price row" in a.status_reason
    assert server.requests == []
    assert lines(acme) == []


def test_price_of_zero_makes_calls_free_though_a_budget_is_used_up(acme: World) -> None:
    price(acme, "simulated", 0)
    nothing = budget(acme, 0)

    a = asked(acme, simulated("Hi", output_tokens=10))

    assert a.status == "completed"
    (line,) = lines(acme)
    assert (line.amount_nano, line.output_tokens) == (0, 10)
    assert state(acme, nothing) == (0, 0, 0)


@pytest.mark.parametrize(
    "usage",
    [
        None,
        "many",
        {},
        {"prompt_tokens": 0, "completion_tokens": 0},
        {"prompt_tokens": -5, "completion_tokens": -1},
        {"prompt_tokens": 10**30, "completion_tokens": 1.5},
    ],
)
def test_usage_that_is_missing_or_lies_is_charged_as_estimated(
    acme: World, settings: Any, usage: Any
) -> None:
    price(acme, "compatible", 1)
    wide = budget(acme, 10**9)

    with provider(acme, settings, usage=usage):
        a = asked(acme, ASK)

    assert (a.status, a.output) == ("completed", "Hello.")
    (line,) = lines(acme)
    assert line.estimated
    assert line.input_tokens > 0 < line.output_tokens
    assert line.amount_nano == 1000 * (line.input_tokens + line.output_tokens)
    assert state(acme, wide) == (line.amount_nano, 0, 0)


def test_usage_beyond_what_was_asked_for_is_believed_and_closes_the_budget(
    acme: World, settings: Any
) -> None:
    price(acme, "compatible", 1)
    narrow = budget(acme, 10**8)
    usage = {"prompt_tokens": 10**6, "completion_tokens": 10**6}

    with provider(acme, settings, usage=usage):
        first, second = asked(acme, ASK), asked(acme, ASK)

    assert (first.status, second.status) == ("completed", "budget_exceeded")
    assert state(acme, narrow) == (2 * 10**9, 0, 19 * 10**8)
