"""Models that are asked when a step's own is given up."""

from typing import Any

import pytest

from agents_app.core.errors import ProviderError, ProviderErrorKind
from agents_app.core.model import ModelReply, ModelRequest
from agents_app.providers.simulated import SimulatedClient
from costs.models import TenantPrice
from orchestrator.execution import gateway
from orchestrator.execution.providers import provider_settings
from orchestrator.models import LlmCall
from orchestrator.services.sweep import sweep
from tests.e2e.stories import simulated, start
from tests.engine_driver import drain, open_limiter, step_of
from tests.integration.costs.test_budgets import budget, state
from tests.integration.orchestrator.test_engine_budgets import make_due
from tests.integration.orchestrator.test_engine_limits import limited
from tests.world import World

Kind = ProviderErrorKind
SPARE = [{"provider": "simulated", "model": "spare"}, {"provider": "simulated", "model": "last"}]


class Moody:
    """The simulated provider, some of whose models fail in a way of their own."""

    def __init__(self) -> None:
        self._client = SimulatedClient(provider_settings()["simulated"])
        self.fails: dict[str, Kind] = {}

    def complete(self, request: ModelRequest) -> ModelReply:
        kind = self.fails.get(request.model)
        if kind is not None:
            raise ProviderError(kind, "as it was told to", "simulated")
        return self._client.complete(request)


@pytest.fixture
def provider(acme: World, monkeypatch: pytest.MonkeyPatch) -> Moody:
    open_limiter()
    moody = Moody()
    real = gateway.client_for_tenant

    def moody_client(*args: Any, **kwargs: Any) -> Any:
        return gateway.TenantClient(client=moody, credential_id=real(*args, **kwargs).credential_id)

    monkeypatch.setattr(gateway, "client_for_tenant", moody_client)
    return moody


def thought(**fields: Any) -> dict[str, Any]:
    step = {**simulated("think"), "fallback": SPARE, "retry": {"attempts": 2, "base": "60s"}}
    return {**step, **fields}


def asked(world: World) -> list[tuple[str, str]]:
    with world.scope():
        return list(LlmCall.objects.order_by("created_at").values_list("model", "status"))


def test_another_model_is_asked_once_the_last_attempt_has_failed(
    acme: World, provider: Moody
) -> None:
    provider.fails = {"sim": Kind.SERVER}
    run_id = start(acme, {"a": thought()})
    drain(acme, run_id)
    assert step_of(acme, run_id, "a").status == "waiting"
    make_due(step_of(acme, run_id, "a").id)
    sweep()

    assert drain(acme, run_id).status == "completed"
    assert asked(acme) == [("sim", "failed"), ("sim", "failed"), ("spare", "closed")]
    assert step_of(acme, run_id, "a").model == "spare"


def test_chain_is_gone_through_and_its_last_failure_counts(acme: World, provider: Moody) -> None:
    provider.fails = {"sim": Kind.OVERLOADED, "spare": Kind.TIMEOUT, "last": Kind.SERVER}
    run_id = start(acme, {"a": thought(retry={"attempts": 1})})

    run = drain(acme, run_id)

    assert (run.status, [model for model, _ in asked(acme)]) == ("failed", ["sim", "spare", "last"])
    assert "server" in run.status_reason


@pytest.mark.parametrize("kind", [Kind.INVALID_REQUEST, Kind.AUTH, Kind.CONTENT_REFUSED])
def test_what_no_try_would_mend_is_no_reason_to_ask_another(
    acme: World, provider: Moody, kind: Kind
) -> None:
    provider.fails = {"sim": kind}
    run_id = start(acme, {"a": thought()})

    assert drain(acme, run_id).status == "failed"
    assert [model for model, _ in asked(acme)] == ["sim"]


def test_account_without_credit_is_given_up_at_once(acme: World, provider: Moody) -> None:
    provider.fails = {"sim": Kind.QUOTA_EXHAUSTED}
    run_id = start(acme, {"a": thought()})

    assert drain(acme, run_id).status == "completed"
    assert [model for model, _ in asked(acme)] == ["sim", "spare"]


def test_limit_that_keeps_a_step_too_long_sends_it_to_another_model(
    acme: World, provider: Moody
) -> None:
    limited(acme, provider="simulated", model="sim")
    steps = {"a": thought(), "b": {**thought(max_wait="5s"), "needs": ["a"]}}
    run_id = start(acme, steps)

    assert drain(acme, run_id).status == "completed"
    assert [model for model, _ in asked(acme)] == ["sim", "spare"]


def test_each_hop_is_held_at_its_own_price(acme: World, provider: Moody) -> None:
    provider.fails = {"sim": Kind.QUOTA_EXHAUSTED}
    with acme.scope():
        for model, usd in (("sim", 1), ("spare", 50)):
            TenantPrice.objects.create(
                provider="simulated",
                model=model,
                valid_from="2020-01-01",
                input_usd=0,
                output_usd=usd,
            )
    of_tenant = budget(acme, 2_000_000)
    run_id = start(acme, {"a": thought(parameters={"max_output_tokens": 1000})})

    run = drain(acme, run_id)

    # The call of the dear model may cost 0.05 USD, and 0.002 are left.
    assert run.status == "budget_exceeded"
    assert "may cost 0.05 USD" in run.status_reason
    assert [model for model, _ in asked(acme)] == ["sim"]
    assert state(acme, of_tenant) == (0, 0, 0)
