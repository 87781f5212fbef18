"""Agents at work in a run, and what they exchange."""

from contextlib import suppress
from datetime import timedelta
from uuid import UUID

from uuid_utils.compat import uuid7

from agents_app.core.bus import Incoming, Outgoing, Sent, Wanted
from orchestrator.execution import engine_db
from orchestrator.execution.claims import Claim, claim
from orchestrator.execution.context_rows import ContextRows
from orchestrator.execution.leases import Lease
from orchestrator.execution.messages import Messages
from orchestrator.execution.todo_rows import TodoRows
from orchestrator.services.advance import advance
from orchestrator.services.control import cancel_run
from orchestrator.services.sweep import sweep
from tenants.kernel.errors import PlatformError
from tests.e2e.stories import echo, start
from tests.engine_driver import run_of, step_of
from tests.world import World

LEASE = timedelta(minutes=5)


_EXPIRE = """
UPDATE agent_run SET lease_until = clock_timestamp() - interval '1 s'
 WHERE run_id = %s AND status = 'running' RETURNING id
"""
_begun: list[tuple[World, UUID]] = []


def end_talks() -> None:
    """Have what is still at work give back its tenant's share of the workers."""
    while _begun:
        world, run_id = _begun.pop()
        run = run_of(world, run_id)
        with world.scope(), suppress(PlatformError):
            cancel_run(run)
        engine_db.many(_EXPIRE, run_id, alias="system")
        if not _begun:
            sweep()


def working_run(world: World, *names: str) -> UUID:
    """A run whose steps are all queued."""
    run_id = start(world, {name: echo(value=name) for name in names}, strategy="adaptive")
    _begun.append((world, run_id))
    advance(world.tenant.id, run_id)
    return run_id


def take(world: World, run_id: UUID, name: str) -> Claim:
    taken = claim(world.tenant.id, step_of(world, run_id, name).id, worker="w", lease=LEASE)
    assert taken
    return taken


class Talker:
    """An agent at work that sends and reads, each time by a call of its own."""

    def __init__(self, taken: Claim, *, capabilities: tuple[str, ...] = ()) -> None:
        self.claim = taken
        self.lease = Lease(taken.agent_run_id, taken.attempt)
        self.context = ContextRows(taken, self.lease)
        self.todos = TodoRows(taken, self.lease)
        self.bus = Messages(taken, self.lease, capabilities=capabilities)

    def send(self, content: object, *, call: UUID | None = None, **given: object) -> Sent:
        return self.bus.send(Outgoing(content=content, **given), call_id=call or uuid7())  # type: ignore[arg-type]

    def messages(self, *, call: UUID | None = None, **wanted: object) -> list[Incoming]:
        return [*self.bus.read(Wanted(**wanted), call_id=call or uuid7())]  # type: ignore[arg-type]

    def read(self, *, call: UUID | None = None, **wanted: object) -> list[object]:
        return [message.content for message in self.messages(call=call, **wanted)]


def talkers(world: World, *names: str) -> list[Talker]:
    run_id = working_run(world, *names)
    return [Talker(take(world, run_id, name)) for name in names]
