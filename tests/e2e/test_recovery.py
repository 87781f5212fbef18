"""Workers die, messages vanish: the run still ends, and nothing finished is paid again."""

from pathlib import Path
from uuid import UUID

import pytest
from django.conf import settings
from redis import Redis

from costs.models import CostEntry
from orchestrator.models import AgentRun, LlmCall, RunEvent
from tests import workers
from tests.e2e.deaths import QUICK
from tests.e2e.stories import echo, ended, simulated, start, statuses
from tests.eventually import eventually
from tests.world import World


def step_status(world: World, run_id: UUID, step: str) -> str:
    return statuses(world, run_id)[step]


@pytest.mark.usefixtures("live_db")
def test_killed_workers_step_runs_again_elsewhere(acme: World, log_dir: Path) -> None:
    steps = {
        "paid": simulated("first"),
        "slow": simulated("second", ["paid"], latency=4.0),
        "last": echo(value="${steps.slow.output}", needs=["slow"]),
    }
    with workers.control("control-k", log_dir, **QUICK):
        with workers.agents("victim", log_dir, **QUICK) as victim:
            run_id = start(acme, steps)
            eventually(lambda: step_status(acme, run_id, "slow") == "running")
            victim.kill()
        with workers.agents("heir", log_dir, **QUICK):
            run = ended(acme, run_id)

    with acme.scope():
        calls = LlmCall.objects.filter(run=run)
        slow = AgentRun.objects.get(run=run, step="slow")
        assert run.status == "completed"
        assert list(slow.attempts.values_list("number", "outcome")) == [
            (1, "lost"),
            (2, "completed"),
        ]
        assert slow.worker == "heir@test"
        # The answered call was not repeated; the cut one is in doubt and was tried again.
        assert calls.filter(agent_run__step="paid").count() == 1
        slow_calls = calls.filter(agent_run__step="slow").order_by("attempt")
        assert [call.status for call in slow_calls] == ["in_doubt", "closed"]
        assert CostEntry.objects.filter(run_id=run.id).count() == calls.count()
        assert RunEvent.objects.filter(run=run, type="agent.recovered").count() == 1


@pytest.mark.usefixtures("live_db")
def test_wiped_broker_delays_runs_but_loses_none(acme: World, log_dir: Path) -> None:
    with workers.control("control-w", log_dir, **QUICK):
        run_id = start(acme, {f"s{i}": echo(value=i) for i in range(10)})
        eventually(lambda: step_status(acme, run_id, "s0") == "queued")
        Redis.from_url(settings.CELERY_BROKER_URL).flushdb()
        with workers.agents("late", log_dir, **QUICK):
            run = ended(acme, run_id)

    assert run.status == "completed"


@pytest.mark.usefixtures("live_db")
def test_run_accepted_while_nobody_works_starts_later(acme: World, log_dir: Path) -> None:
    run_id = start(acme, {"a": echo(value=1)})
    Redis.from_url(settings.CELERY_BROKER_URL).flushdb()

    with (
        workers.control("control-l", log_dir, **QUICK),
        workers.agents("agents-l", log_dir, **QUICK),
    ):
        assert ended(acme, run_id).status == "completed"
