"""A loop that spends too fast, under real workers."""

from datetime import date
from pathlib import Path
from uuid import UUID

import pytest

from costs.models import CostEntry, TenantPrice
from orchestrator.models import Run
from orchestrator.services.control import resume_run
from tests import workers
from tests.e2e.stories import ended, simulated, start
from tests.eventually import eventually
from tests.world import World

USD = 10**9
CALLS = 40


@pytest.mark.usefixtures("live_db")
def test_loop_is_paused_within_seconds_and_goes_on_after_a_yes(acme: World, log_dir: Path) -> None:
    price(acme)
    with workers.control("control-v", log_dir), workers.agents("v1", log_dir, concurrency=2):
        run_id = start(acme, {f"s{n}": thought(n) for n in range(CALLS)}, strategy="adaptive")

        run = eventually(lambda: paused(acme, run_id), within=60)

        # Ten for a new workflow, and what a chain spends in the two seconds until the next look.
        assert 10 * USD < spent(acme) < CALLS * USD
        assert "more than 10 USD asks for a person's yes" in run.status_reason
        with acme.scope():
            resume_run(run)
        assert ended(acme, run_id, within=60).status == "completed"

    assert spent(acme) == CALLS * USD


def price(world: World) -> None:
    with world.scope():
        TenantPrice.objects.create(
            provider="simulated",
            model="*",
            valid_from=date(2020, 1, 1),
            input_usd=0,
            output_usd=10_000,
        )


def thought(number: int) -> dict[str, object]:
    needs = [f"s{number - 1}"] if number else None
    return simulated("on", needs, latency=0.2, output_tokens=100, max_output_tokens=100)


def paused(world: World, run_id: UUID) -> Run | None:
    with world.scope():
        return Run.objects.filter(id=run_id, status="paused").first()


def spent(world: World) -> int:
    with world.scope():
        return sum(CostEntry.objects.values_list("amount_nano", flat=True))
