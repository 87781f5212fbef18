"""Agents at work in a run, and what they exchange."""

from datetime import timedelta
from uuid import UUID

from uuid_utils.compat import uuid7

from agents_app.core.bus import Incoming, Outgoing, Sent, Wanted
from orchestrator.execution.claims import Claim, claim
from orchestrator.execution.context_rows import ContextRows
from orchestrator.execution.leases import Lease
from orchestrator.execution.messages import Messages
from orchestrator.execution.todo_rows import TodoRows
from orchestrator.services.advance import advance
from tests.e2e.stories import echo, start
from tests.engine_driver import step_of
from tests.world import World

LEASE = timedelta(minutes=5)


def working_run(world: World, *names: str) -> UUID:
    """A run whose steps are all queued."""
    run_id = start(world, {name: echo(value=name) for name in names}, strategy="adaptive")
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
