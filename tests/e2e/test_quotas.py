"""A provider with real quotas, by somebody else, judges whether two workers keep to them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from costs.models import TenantPrice
from orchestrator.execution.providers import provider_settings
from orchestrator.models import PlatformRateLimit
from tests import model_servers, workers
from tests.e2e.stories import ended, start
from tests.model_servers import QuotaServer
from tests.world import World

PATIENCE_SECONDS = 500
MOST_TIME, MOST_ATTEMPTS = 1.15, 1.1
MODEL = "mock-model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    calls: int
    rpm: int

    @property
    def ideal_seconds(self) -> float:
        """The provider begins with a full bucket: what is beyond it comes as it refills."""
        return (self.calls - self.rpm) * 60 / self.rpm


SHORT = Size(calls=84, rpm=72)
LONG = Size(calls=120, rpm=30)


@pytest.fixture
def provider(size: Size, settings: Any) -> Iterator[QuotaServer]:
    with model_servers.quota_server(rpm=size.rpm) as server:
        known = settings.MUSTER_PROVIDERS
        given = {**known["compatible"], "base_url": server.base_url}
        settings.MUSTER_PROVIDERS = {**known, "compatible": given}
        provider_settings.cache_clear()
        yield server
    provider_settings.cache_clear()


@pytest.mark.timeout(PATIENCE_SECONDS)
@pytest.mark.usefixtures("live_db")
@pytest.mark.parametrize(
    ("size", "is_told"),
    [
        pytest.param(SHORT, True, id="short"),
        pytest.param(LONG, True, id="long", marks=pytest.mark.load),
        pytest.param(LONG, False, id="long-without-a-limit", marks=pytest.mark.load),
    ],
)
def test_provider_with_a_quota_is_used_to_the_full_and_no_faster(
    acme: World, size: Size, provider: QuotaServer, log_dir: Path, is_told: bool
) -> None:
    given(acme)
    environment = {"COMPATIBLE_BASE_URL": provider.base_url, "MUSTER_SWEEP_SECONDS": "0.5"}
    with (
        limited(size) if is_told else nullcontext(),
        workers.control("quota-c", log_dir, **environment),
        workers.agents("quota-1", log_dir, **environment),
        workers.agents("quota-2", log_dir, **environment),
    ):
        run_id = start(acme, {"each": each()}, given={"items": list(range(size.calls))})
        run = ended(acme, run_id, within=PATIENCE_SECONDS / 2)

    asked, verdict = provider.requests(), provider.verdict()
    seconds = max(one["ended_at"] for one in asked) - min(one["started_at"] for one in asked)
    told = {"seconds": round(seconds, 1), "ideal": size.ideal_seconds, **verdict}
    print(json.dumps(told))  # noqa: T201  the figures of the long ones
    assert run.status == "completed", run.status_reason
    assert (verdict["calls"], verdict["errors"], verdict["warnings"]) == (size.calls, 0, 0), told
    assert verdict["attempts"] <= MOST_ATTEMPTS * size.calls, told
    assert seconds <= MOST_TIME * size.ideal_seconds, told


def given(world: World) -> None:
    with world.scope():
        TenantPrice.objects.create(
            provider="compatible",
            model="*",
            valid_from=date(2020, 1, 1),
            input_usd=1,
            output_usd=2,
        )


@contextmanager
def limited(size: Size) -> Iterator[None]:
    """As an operator states the quota of a key.

    By the hour, since of such a bucket the rows tell how full it is; one of a minute begins empty
    where Redis has just been started.
    """
    row = PlatformRateLimit.objects.using("system").create(
        scope="provider",
        provider="compatible",
        model=MODEL,
        unit="requests",
        period="hour",
        limit=size.rpm * 60,
        capacity=size.rpm,
    )
    yield
    row.delete(using="system")


def each() -> dict[str, Any]:
    return {
        "agent": {"type": "prompt", "provider": "compatible", "model": MODEL},
        "prompt": "Say something about number ${item}.",
        "map": {"over": "${input.items}"},
        "max_wait": "1h",
    }
