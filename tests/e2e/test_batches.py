"""Batches under real workers, one of which dies between sending one and noting so."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from llmock.routers import batch as llmock_batches

from costs.models import CostEntry
from orchestrator.execution import engine_db
from orchestrator.execution.providers import provider_settings
from tests import workers
from tests.e2e.stories import ended, start
from tests.eventually import eventually
from tests.model_servers import batches_over_in, llmock
from tests.world import World

LEASES_OVER = """
UPDATE model_batch SET lease_until = NULL WHERE tenant_id = %s AND status = 'sending' RETURNING id
"""


@pytest.mark.usefixtures("live_db")
def test_batch_is_sent_once_although_its_sender_dies_before_it_knows(
    acme: World, log_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with llmock() as server, batches_over_in(0.5):
        known = {"api_key": "sk-x", "base_url": server.base_url("openai")}
        environment = {
            "OPENAI_API_KEY": known["api_key"],
            "OPENAI_BASE_URL": known["base_url"],
            "MUSTER_BATCH_COLLECT_SECONDS": "0.5",
            "MUSTER_BATCH_POLL_SECONDS": "0.5",
        }
        configure(monkeypatch, **known)
        before = len(llmock_batches._batches)
        step = {
            "agent": {"type": "prompt", "provider": "openai", "model": "gpt-4o"},
            "prompt": "Tell me of ${item}",
            "map": {"over": "${input.topics}"},
            "batch": True,
        }
        with workers.agents("b1", log_dir, concurrency=2, **environment):
            dying = {**environment, "MUSTER_CRASH_POINTS": "after_batch=1"}
            with workers.control("control-dying", log_dir, **dying) as control:
                run_id = start(acme, {"a": step}, given={"topics": ["tea", "rain", "stones"]})
                eventually(lambda: control.process.poll() is not None)
            engine_db.many(LEASES_OVER, acme.tenant.id, alias="system")

            with workers.control("control-heir", log_dir, **environment):
                run = ended(acme, run_id)

    assert run.status == "completed", run.status_reason
    assert len(run.output) == 3
    assert len(llmock_batches._batches) == 1 + before
    with acme.scope():
        assert [line.kind for line in CostEntry.objects.filter(run_id=run_id)] == ["call"] * 3


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield
    monkeypatch.undo()
    provider_settings.cache_clear()


def configure(monkeypatch: pytest.MonkeyPatch, **known: str) -> None:
    given = settings.MUSTER_PROVIDERS
    openai = {**given["openai"], **known}
    monkeypatch.setattr(settings, "MUSTER_PROVIDERS", {**given, "openai": openai})
    provider_settings.cache_clear()
