"""Ledger lines as the engine writes them, without any call."""

from datetime import UTC, datetime

from costs.models import CostEntry
from tenants.kernel.models import uuid7
from tests.world import World


def charge(world: World, **facts: object) -> CostEntry:
    """One line; the least that is valid, and these facts."""
    with world.scope():
        return CostEntry.objects.create(
            **{
                "id": uuid7(),
                "tenant": world.tenant,
                "kind": "call",
                "amount_nano": 400_000,
                "call_id": uuid7(),
                "project_id": world.project.id,
                "workflow_id": uuid7(),
                "workflow_name": "greet",
                "run_id": uuid7(),
                "agent_run_id": uuid7(),
                "attempt": 1,
                "step": "hello",
                "provider": "local",
                "model": "smollm2",
                "unit_prices": {},
                **facts,
            }
        )


def at(text: str) -> datetime:
    """A time in UTC, from `2026-11-05 12:00`."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
