"""`model: auto`: a cheap model for a simple prompt, a strong one for a complex one."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings

from costs.models import TenantPrice
from orchestrator.core.errors import WorkflowInvalidError
from orchestrator.execution.providers import provider_settings
from orchestrator.models import LlmCall
from tests.e2e.stories import simulated, start
from tests.engine_driver import drain, open_limiter
from tests.rest import get, made
from tests.world import World

COMPLEX = """Compare the two designs, explain why one is better, and prove that it must be at least
as fast unless the cache is cold. Then:
1. list the risks,
2. derive the bound,
3. justify each step,
4. debug `def f(x):`
"""


@pytest.fixture(autouse=True)
def _three_models(acme: World) -> Iterator[None]:
    open_limiter()
    simulated_provider = settings.MUSTER_PROVIDERS["simulated"]
    before = dict(simulated_provider)
    simulated_provider |= {"model_simple": "small", "model_complex": "large", "model": "middle"}
    provider_settings.cache_clear()
    yield
    simulated_provider |= before
    provider_settings.cache_clear()


def thought(prompt: str) -> dict[str, Any]:
    step = simulated(prompt)
    return {**step, "agent": {**step["agent"], "model": "auto"}}


def asked(world: World) -> list[str]:
    with world.scope():
        return list(LlmCall.objects.order_by("created_at").values_list("model", flat=True))


def test_model_is_chosen_by_the_prompt_as_it_is_asked(acme: World) -> None:
    steps = {"a": thought("${input.first}"), "b": {**thought("${input.second}"), "needs": ["a"]}}
    run_id = start(acme, steps, given={"first": "Say hello.", "second": COMPLEX})

    assert drain(acme, run_id).status == "completed"
    assert asked(acme) == ["small", "large"]


def test_all_that_may_be_chosen_needs_a_price(acme: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "orchestrator.services.workflows.knows_price", lambda _t, _p, model: model != "large"
    )

    with pytest.raises(WorkflowInvalidError) as caught:
        start(acme, {"a": thought("hi")})

    assert [problem.loc for problem in caught.value.problems] == ["/steps/a/agent/model"]


def test_plan_is_priced_by_the_dearest_and_by_the_cheapest(acme: World) -> None:
    with acme.scope():
        for model, usd in (("small", 1), ("middle", 2), ("large", 50)):
            TenantPrice.objects.create(
                provider="simulated",
                model=model,
                valid_from="2020-01-01",
                input_usd=0,
                output_usd=usd,
            )
    step = {**thought("hi"), "parameters": {"max_output_tokens": 1000}, "retry": {"attempts": 1}}
    start(acme, {"a": step})

    workflow = made(get(acme.client(), "workflows"))["results"][0]["id"]
    price = made(get(acme.client(), f"workflows/{workflow}/plan"))["price"]

    assert price["worst_usd"] == "0.05"
