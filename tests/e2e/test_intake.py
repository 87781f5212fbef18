"""Real workers: none takes more messages than it can begin, or stops to take any."""

from pathlib import Path
from random import Random
from uuid import UUID

import pytest
from django.conf import settings
from redis import Redis

from orchestrator.chaos.mail import QUEUES
from orchestrator.chaos.noise import Noise
from orchestrator.models import AgentRun
from tests import workers
from tests.e2e.stories import echo, ended, simulated, start, statuses
from tests.eventually import eventually
from tests.redis_clients import cut_clients
from tests.world import World

CUTS = 20


def count(world: World, run_id: UUID, status: str) -> int:
    return list(statuses(world, run_id).values()).count(status)


def seconds_of(world: World, run_id: UUID) -> float:
    run = ended(world, run_id)
    assert run.status == "completed"
    assert run.started_at
    assert run.finished_at
    return (run.finished_at - run.started_at).total_seconds()


@pytest.mark.usefixtures("live_db")
def test_busy_worker_leaves_to_others_what_it_cannot_begin(acme: World, log_dir: Path) -> None:
    long = {f"long{number}": {**simulated("x", latency=12.0), "priority": 9} for number in range(2)}
    short = {f"short{number}": simulated("x", latency=0.1) for number in range(6)}
    with (
        # Without a sweep, which would send again what waits behind the long ones.
        workers.control("control-b", log_dir, MUSTER_SWEEP_SECONDS="60"),
        workers.agents("busy", log_dir, concurrency=2),
    ):
        run_id = start(acme, {**long, **short}, strategy="adaptive")
        eventually(lambda: count(acme, run_id, "running") == 2)
        with workers.agents("free", log_dir):
            assert ended(acme, run_id).status == "completed"

    with acme.scope():
        done_by = dict(AgentRun.objects.filter(run_id=run_id).values_list("step", "worker"))
    assert {step for step, worker in done_by.items() if worker == "busy@test"} == set(long)


@pytest.mark.usefixtures("live_db")
def test_worker_with_more_messages_than_threads_never_dozes(acme: World, log_dir: Path) -> None:
    steps = {f"s{number}": simulated("x", latency=0.05) for number in range(60)}
    with workers.control("control-d", log_dir), workers.agents("few", log_dir, concurrency=2):
        # Ideal are 1.5 s; a loop that sleeps until its next timer takes half a minute.
        assert seconds_of(acme, start(acme, steps, strategy="adaptive")) < 10


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("live_db")
def test_busy_worker_goes_on_however_often_it_is_cut_off(acme: World, log_dir: Path) -> None:
    steps = {f"s{number}": simulated("x", latency=0.5) for number in range(CUTS * 2)}
    with (
        workers.control("control-c", log_dir),
        workers.agents("cut", log_dir, concurrency=2) as cut,
    ):
        run_id = start(acme, steps, strategy="adaptive")
        for done in range(CUTS):
            eventually(lambda done=done: count(acme, run_id, "completed") >= done * 2)
            eventually(lambda: count(acme, run_id, "running") == 2)
            cut_clients(settings.CELERY_BROKER_URL, "normal", "pubsub")
        assert ended(acme, run_id).status == "completed"
        after = start(acme, {"a": echo(value=1)}, strategy="adaptive")
        assert ended(acme, after).status == "completed"

    assert "Connection to broker lost" in cut.log.read_text()
    with acme.scope():
        assert set(AgentRun.objects.filter(run_id=run_id).values_list("attempt", flat=True)) == {1}


@pytest.mark.usefixtures("live_db")
def test_messages_that_cannot_be_read_take_no_place_for_good(acme: World, log_dir: Path) -> None:
    noise = Noise(settings.CELERY_BROKER_URL, Random(1))
    redis = Redis.from_url(settings.CELERY_BROKER_URL)
    with (
        workers.control("control-n", log_dir),
        workers.agents("narrow", log_dir, concurrency=1),
    ):
        for _ in range(10):
            noise.make()
        noise.close()
        eventually(lambda: not any(redis.llen(queue) for queue in QUEUES))

        assert ended(acme, start(acme, {"a": echo(value=1)})).status == "completed"
