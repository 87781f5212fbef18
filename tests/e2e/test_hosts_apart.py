"""A worker's host is cut off from the others, and comes back."""

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest

from costs.models import CostEntry, TenantPrice
from orchestrator.models import AgentRun, LlmCall, Run, RunEvent
from tests import workers
from tests.e2e.hosts import Host, host
from tests.e2e.stories import echo, ended, simulated, start
from tests.eventually import eventually
from tests.world import World

QUICK = {"MUSTER_LEASE_SECONDS": "3", "MUSTER_SWEEP_SECONDS": "0.5"}


@pytest.fixture
def hosts(live_db: None) -> Iterator[tuple[Host, Host]]:
    with host() as one, host() as two:
        yield one, two


@pytest.mark.timeout(180)
def test_step_of_a_host_that_was_cut_off_is_done_once_and_paid_as_it_was(
    acme: World, log_dir: Path, hosts: tuple[Host, Host]
) -> None:
    lonely, other = hosts
    with acme.scope():
        price = {"input_usd": Decimal(1), "output_usd": Decimal(2), "valid_from": date(2020, 1, 1)}
        TenantPrice.objects.create(provider="simulated", model="sim", **price)
    with (
        workers.control("control-n", log_dir, **QUICK),
        workers.agents("lonely", log_dir, inside=lonely.inside, **lonely.environment, **QUICK),
    ):
        run_id = start(acme, {"a": simulated("slow", latency=3.0), "b": echo(needs=["a"])})
        eventually(lambda: is_asking(acme, run_id))
        lonely.cut_off()
        with workers.agents("other", log_dir, inside=other.inside, **other.environment, **QUICK):
            run = ended(acme, run_id)
            assert [call.status for call in calls(acme, run)] == ["in_doubt", "closed"]
            lonely.heal()
            eventually(lambda: calls(acme, run)[0].status == "closed", within=90)
        after = ended(acme, start(acme, {"a": echo(value=1)}))

    with acme.scope():
        run.refresh_from_db()
        step = AgentRun.objects.get(run=run, step="a")
        assert list(step.attempts.order_by("number").values_list("worker", "outcome")) == [
            ("lonely@test", "lost"),
            ("other@test", "completed"),
        ]
        assert step.worker == "other@test"
        told = list(RunEvent.objects.filter(run=run).values_list("type", flat=True))
        assert told.count("run.completed") == 1
        assert told.count("agent.completed") == 2
        entries = CostEntry.objects.filter(run_id=run.id).order_by("at")
        assert [entry.kind for entry in entries] == ["in_doubt", "call", "correction"]
        # Both were answered, so both were paid, and neither at its worst case.
        one, two = calls(acme, run)
        assert one.cost_nano == two.cost_nano > 0
        assert sum(entry.amount_nano for entry in entries) == run.cost_nano == 2 * one.cost_nano
        assert step.cost_nano == run.cost_nano
    assert run.status == "completed"
    assert after.status == "completed"
    assert "outcome_dropped" in (log_dir / "lonely.log").read_text()


def is_asking(world: World, run_id: UUID) -> bool:
    with world.scope():
        return LlmCall.objects.filter(run=run_id, status="open").exists()


def calls(world: World, run: Run) -> list[LlmCall]:
    with world.scope():
        return list(LlmCall.objects.filter(run=run).order_by("attempt"))
