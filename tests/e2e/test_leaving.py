"""Workers that end: told to, or by themselves because their threads hang."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest
from django.conf import settings
from redis import Redis

from costs.models import CostEntry
from orchestrator.embedded import commands, processes
from orchestrator.embedded.keeper import Keeper
from orchestrator.embedded.ports import Claims, free_port
from orchestrator.embedded.processes import Service
from orchestrator.embedded.stack import worker_answers
from orchestrator.embedded.valkey import Valkey
from orchestrator.models import AgentRun, LlmCall, Run
from orchestrator.services.control import cancel_run
from orchestrator.services.leaving import EXIT_HUNG
from tenants.kernel.clock import now
from tests import workers
from tests.e2e.stories import echo, ended, simulated, start, statuses
from tests.eventually import eventually
from tests.world import World

QUICK = {"MUSTER_LEASE_SECONDS": "3", "MUSTER_SWEEP_SECONDS": "0.5"}


def attempts(world: World, run_id: UUID, step: str) -> list[tuple[str, str]]:
    with world.scope():
        agent_run = AgentRun.objects.get(run=run_id, step=step)
        return list(agent_run.attempts.values_list("worker", "outcome"))


def worker_of(world: World, run_id: UUID, step: str) -> str:
    with world.scope():
        return AgentRun.objects.get(run=run_id, step=step).worker


def queue_length() -> int:
    return Redis.from_url(settings.CELERY_BROKER_URL).llen("agents")


@contextmanager
def kept(name: str, log_dir: Path, *options: str) -> Iterator[list[str]]:
    """A worker as the embedded supervisor keeps it; gives what the supervisor says of it."""
    said: list[str] = []
    service = Service(
        name=name,
        command=commands.worker(*options, name=name),
        directory=commands.REPOSITORY,
        log=log_dir / f"{name}.log",
        environment={**os.environ, **QUICK},
        is_ready=partial(worker_answers, name, broker=settings.CELERY_BROKER_URL),
        ready_seconds=60,
    )
    keeper = Keeper(service, home=log_dir, say=said.append, started=lambda *_: None)
    try:
        keeper.start()
        yield said
    finally:
        keeper.stop()


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("live_db")
def test_worker_whose_threads_hang_finishes_the_others_and_is_replaced(
    acme: World, log_dir: Path
) -> None:
    hanging = {**echo(value="hang"), "timeout": "1s", "retry": {"attempts": 1}}
    with (
        workers.control("control-h", log_dir, **QUICK),
        kept("sick", log_dir, "-c", "4", "--include", "tests.e2e.hanging_tool") as said,
    ):
        healthy = start(acme, {"a": simulated("slow", latency=16.0)})
        eventually(lambda: statuses(acme, healthy)["a"] == "running")
        hung = ended(acme, start(acme, {"a": hanging}))
        eventually(lambda: said)
        after = ended(acme, start(acme, {"a": echo(value=1)}))

    assert f"sick ended with exit code {EXIT_HUNG} " in said[0]
    assert "worker_hangs" in (log_dir / "sick.old.log").read_text()
    assert (hung.status, after.status) == ("failed", "completed")
    assert [outcome for _, outcome in attempts(acme, healthy, "a")] == ["completed"]


@pytest.mark.usefixtures("live_db")
def test_what_a_worker_has_not_begun_goes_back_at_once(acme: World, log_dir: Path) -> None:
    with (
        workers.control("control-b", log_dir),
        workers.agents("full", log_dir, concurrency=1, CELERY_PREFETCH="8") as full,
    ):
        slow = start(acme, {"a": simulated("slow", latency=6.0)})
        eventually(lambda: statuses(acme, slow)["a"] == "running")
        waiting = start(acme, {f"s{i}": echo(value=i) for i in range(12)})
        # It holds eight, the one that it is at work on among them.
        eventually(lambda: queue_length() == 12 - 7)
        full.process.terminate()
        with workers.agents("next", log_dir):
            run = ended(acme, waiting)
            assert full.process.poll() is None
            assert full.process.wait(20) == 0

    assert run.status == "completed"
    with acme.scope():
        assert set(run.agent_runs.values_list("worker", "attempt", "publish_count")) == {
            ("next@test", 1, 1)
        }
        assert attempts(acme, slow, "a") == [("full@test", "completed")]


@pytest.mark.usefixtures("live_db")
def test_what_does_not_end_in_time_is_handed_over_at_once(acme: World, log_dir: Path) -> None:
    impatient = {"CELERY_SOFT_SHUTDOWN_SECONDS": "1"}
    with (
        workers.control("control-o", log_dir, MUSTER_SWEEP_SECONDS="60"),
        workers.agents("one", log_dir, **impatient) as one,
        workers.agents("two", log_dir, **impatient) as two,
    ):
        # Longer than it takes the other worker to start.
        run_id = start(acme, {"a": simulated("slow", latency=10.0)})
        eventually(lambda: statuses(acme, run_id)["a"] == "running")
        leaver = {"one@test": one, "two@test": two}[worker_of(acme, run_id, "a")]
        leaver.process.terminate()
        told_at = now()
        assert leaver.process.wait(10) == 0
        run = ended(acme, run_id)

    with acme.scope():
        left, completed = AgentRun.objects.get(run=run).attempts.order_by("number")
        calls = LlmCall.objects.filter(run=run).order_by("attempt")
        assert (left.outcome, completed.outcome) == ("handed_over", "completed")
        assert {left.worker, completed.worker} == {"one@test", "two@test"}
        assert completed.started_at - told_at < timedelta(seconds=5)
        assert [call.status for call in calls] == ["in_doubt", "closed"]
        assert CostEntry.objects.filter(run_id=run.id).count() == 2
        assert run.cost_nano == sum(call.cost_nano for call in calls)


@pytest.mark.usefixtures("live_db")
def test_worker_leaves_in_time_although_the_broker_is_away(
    acme: World, tmp_path: Path, log_dir: Path
) -> None:
    with own_broker(tmp_path) as (url, take_away):
        broker = {"REDIS_URL": url, "CELERY_BROKER_URL": url}
        with (
            workers.control("control-a", log_dir, **broker),
            workers.agents("away", log_dir, CELERY_SOFT_SHUTDOWN_SECONDS="1", **broker) as away,
        ):
            run_id = start(acme, {"a": simulated("slow", latency=60.0)})
            eventually(lambda: has_called(acme, run_id))
            take_away()
            away.process.terminate()

            assert away.process.wait(20) == 0
            eventually(
                lambda: attempts(acme, run_id, "a") == [("away@test", "handed_over")], within=30
            )
    # Nobody's worker is to be kept by it any more.
    with acme.scope():
        cancel_run(Run.objects.get(id=run_id))


def has_called(world: World, run_id: UUID) -> bool:
    """Whether a model is at work: until then a step may give its worker back to wait."""
    with world.scope():
        return LlmCall.objects.filter(run=run_id, status="open").exists()


@contextmanager
def own_broker(home: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """Its address, and what ends it."""
    claims = Claims()
    valkey = Valkey(home=home, port=free_port(may_have=claims.take), password="secret")
    service = valkey.service()
    service.log.parent.mkdir(parents=True, exist_ok=True)
    process = processes.start(service, home=home)
    try:
        yield valkey.url, lambda: processes.stop(service, process)
    finally:
        processes.stop(service, process)
        claims.release()
