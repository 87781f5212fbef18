"""Others use the same queues, rightly or wrongly."""

from pathlib import Path
from random import Random

import pytest
from django.conf import settings
from redis import Redis

from orchestrator.chaos.mail import QUEUES
from orchestrator.chaos.noise import Noise
from tests import workers
from tests.e2e.stories import echo, ended, start
from tests.eventually import eventually
from tests.world import World


@pytest.mark.usefixtures("live_db")
def test_messages_that_make_no_sense_disturb_nobody(acme: World, log_dir: Path) -> None:
    noise = Noise(settings.CELERY_BROKER_URL, Random(1))
    redis = Redis.from_url(settings.CELERY_BROKER_URL)
    with (
        workers.control("control-x", log_dir) as control,
        workers.agents("agents-x", log_dir) as agents,
    ):
        for _ in range(20):
            noise.make()
        noise.close()
        eventually(lambda: not any(redis.llen(queue) for queue in QUEUES))

        assert ended(acme, start(acme, {"a": echo(value=1)})).status == "completed"
        assert control.process.poll() is agents.process.poll() is None
    for worker in (control, agents):
        told = worker.log.read_text()
        assert "message_refused" in told
        assert "[1, 2, 3]" in told
        assert "raised unexpected" not in told
